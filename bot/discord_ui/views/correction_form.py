"""The forms for a pair: a better answer, with its confirmation, or a new lesson."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import discord

from bot.discord_ui.client import FORM_TIMEOUT_S, BotInteraction, ReportsFailure
from bot.discord_ui.embeds.style import quote_safely
from bot.learning.corrections import Correction
from bot.learning.teaching import MAX_EXAMPLE_CHARS, MAX_WORDINGS
from core.records import Example, ReviewStatus
from i18n.phrase import phrase
from i18n.reader import say

QUESTION_PLACEHOLDER = phrase("Put the question in your own words.")
MAX_ECHO_CHARS = 300
"""Characters of a text that the confirmation repeats."""
NEXT_STEP_BY_STATUS = {
    ReviewStatus.APPROVED: phrase("I learn it at the next `/retrain`."),
    ReviewStatus.WAITING: phrase(
        "Somebody with the permission Manage Server reviews it first; once they approve it, I "
        "learn it at the next `/retrain`."
    ),
    ReviewStatus.REJECTED: phrase(
        "But this exact pair was rejected here before, so I do not learn it."
    ),
}
NOT_LEARNED_IN_DMS = phrase(
    "I keep it, but so far I learn in servers only: there is no `/retrain` here."
)

OnPair = Callable[[BotInteraction, str, str, str], Awaitable[None]]
OnCorrection = Callable[[BotInteraction, Correction, str, str, str], Awaitable[None]]


class PairForm(ReportsFailure, discord.ui.Modal):
    """Three fields: what people say, what the bot should answer, and other ways to ask."""

    def __init__(
        self, title: str, question: str | None = None, placeholder: str | None = None
    ) -> None:
        super().__init__(title=title, timeout=FORM_TIMEOUT_S)
        self.question = _field("question", default=question, placeholder=placeholder)
        self.answer = _field("answer")
        self.also = _field("also", required=False)
        asked, said = say("What people say to me"), say("What I should answer")
        also = say("Other ways to ask")
        self.add_item(discord.ui.Label(text=asked, component=self.question))
        self.add_item(discord.ui.Label(text=said, component=self.answer))
        hint = say("One on each line, at most {most}.", most=MAX_WORDINGS)
        self.add_item(discord.ui.Label(text=also, description=hint, component=self.also))


class CorrectionForm(PairForm):
    """The pair of a reply, to be corrected."""

    def __init__(self, lesson: Correction, learn: OnCorrection) -> None:
        super().__init__(say("A better answer"), lesson.question or None, say(QUESTION_PLACEHOLDER))
        self._correction = lesson
        self._on_correction = learn

    async def on_submit(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await self._on_correction(
            interaction,
            self._correction,
            self.question.value,
            self.answer.value,
            self.also.value,
        )


class LessonForm(PairForm):
    """A new pair, as with `/teach`."""

    def __init__(self, learn: OnPair) -> None:
        super().__init__(say("Teach me something"))
        self._on_pair = learn

    async def on_submit(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await self._on_pair(interaction, self.question.value, self.answer.value, self.also.value)


def _field(
    name: str,
    *,
    default: str | None = None,
    placeholder: str | None = None,
    required: bool = True,
) -> discord.ui.TextInput[PairForm]:
    return discord.ui.TextInput(
        custom_id=name,
        style=discord.TextStyle.paragraph,
        max_length=MAX_EXAMPLE_CHARS,
        default=default,
        placeholder=placeholder,
        required=required,
    )


def correction_confirmation(example: Example, *, in_server: bool) -> str:
    """What was stored, and when it will be learned."""
    return say(
        "Noted. To “{question}” I should answer: “{answer}”\n-# {next}",
        question=quote_safely(example.user, MAX_ECHO_CHARS),
        answer=quote_safely(example.bot, MAX_ECHO_CHARS),
        next=NEXT_STEP_BY_STATUS[example.status] if in_server else NOT_LEARNED_IN_DMS,
    )

"""The form for a better answer, and what is said when it was sent. Knows Discord."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import discord

from bot.discord_ui.client import FORM_S, Gpt2Bot, TellsFailure
from bot.discord_ui.embeds.evaluation import quoted
from bot.learning.corrections import LONGEST, Lesson
from core.records import Example, Review
from i18n.phrase import phrase
from i18n.reader import say

OWN_WORDS = phrase("Put the question in your own words.")
SHOWN = 300
"""Characters of a text that are repeated to whoever wrote it."""
NEXT = {
    Review.APPROVED: phrase("I learn it at the next `/retrain`."),
    Review.WAITING: phrase(
        "Somebody with the permission Manage Server looks at it first; "
        "once they approve it, I learn it at the next `/retrain`."
    ),
    Review.REJECTED: phrase("But this very pair was rejected here before, so I do not learn it."),
}
NOT_HERE = phrase("I keep it, but so far I learn in servers only: there is no `/retrain` here.")

Interaction = discord.Interaction[Gpt2Bot]
Learn = Callable[[Interaction, Lesson, str, str], Awaitable[None]]


class BetterAnswer(TellsFailure, discord.ui.Modal):
    """Two fields: what people say, and what the bot should answer."""

    def __init__(self, lesson: Lesson, learn: Learn) -> None:
        super().__init__(title=say("A better answer"), timeout=FORM_S)
        self._lesson = lesson
        self._learn = learn
        self.question = _field("question", default=lesson.words or None, placeholder=say(OWN_WORDS))
        self.answer = _field("answer")
        asked, said = say("What people say to me"), say("What I should answer")
        self.add_item(discord.ui.Label(text=asked, component=self.question))
        self.add_item(discord.ui.Label(text=said, component=self.answer))

    async def on_submit(self, interaction: Interaction) -> None:  # type: ignore[override]
        await self._learn(interaction, self._lesson, self.question.value, self.answer.value)


def _field(
    name: str, *, default: str | None = None, placeholder: str | None = None
) -> discord.ui.TextInput[BetterAnswer]:
    return discord.ui.TextInput(
        custom_id=name,
        style=discord.TextStyle.paragraph,
        max_length=LONGEST,
        default=default,
        placeholder=placeholder,
    )


def noted(example: Example, *, in_server: bool) -> str:
    """What happened to a better answer, and when it is learned."""
    return say(
        "Noted. To “{question}” I should answer: “{answer}”\n-# {next}",
        question=quoted(example.user, SHOWN),
        answer=quoted(example.bot, SHOWN),
        next=NEXT[example.status] if in_server else NOT_HERE,
    )

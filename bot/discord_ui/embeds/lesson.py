"""The answer to /teach."""

from __future__ import annotations

from bot.discord_ui.embeds.style import examples_text
from bot.discord_ui.views.correction_form import NEXT_STEP_BY_STATUS
from bot.learning.teaching import Lesson
from core.records import ReviewStatus
from i18n.phrase import Phrase, phrase
from i18n.reader import say

SUPERSEDED = phrase(
    "But another answer to it is newer, and the newest counts. A manager can take that one out "
    "with `/dataset remove`."
)


def lesson_is_news(lesson: Lesson) -> bool:
    """Whether it changes what is learned: only then everybody sees the answer."""
    approved = lesson.example.status is ReviewStatus.APPROVED
    return approved and not (lesson.repeated or lesson.superseded)


def lesson_text(lesson: Lesson, count: int) -> str:
    """What was taught, and when it is learned; `count` examples are stored in all."""
    question, answer = lesson.example.user, lesson.example.bot
    if lesson_is_news(lesson):
        return say(
            "Noted. To “{user}” I should answer: “{bot}”\n"
            "-# {examples} so far. I learn them when an admin starts `/retrain`.",
            user=question,
            bot=answer,
            examples=examples_text(count),
        )
    values = {"question": question, "answer": answer, "next": _next_step(lesson, count)}
    if lesson.repeated:
        return say(
            "You have taught me that already: to “{question}” I should answer “{answer}”\n"
            "-# {next}",
            **values,
        )
    return say("Noted. To “{question}” I should answer: “{answer}”\n-# {next}", **values)


def _next_step(lesson: Lesson, count: int) -> Phrase:
    if lesson.example.status is not ReviewStatus.APPROVED:
        return NEXT_STEP_BY_STATUS[lesson.example.status]
    if lesson.superseded:
        return SUPERSEDED
    examples = examples_text(count)
    return phrase(
        "{examples} so far. I learn them when an admin starts `/retrain`.", examples=examples
    )

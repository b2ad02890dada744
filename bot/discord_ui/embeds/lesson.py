"""The answer to /teach, and what it says of other wordings."""

from __future__ import annotations

from collections.abc import Sequence

from bot.discord_ui.embeds.style import examples_text, quote_safely
from bot.discord_ui.views.correction_form import NEXT_STEP_BY_STATUS
from bot.learning.teaching import MAX_WORDINGS, Lesson
from core.records import Example, ReviewStatus
from i18n.phrase import Phrase, phrase
from i18n.reader import say

MAX_WORDING_CHARS = 50
"""Characters of another wording that the confirmation repeats."""
SUPERSEDED = phrase(
    "But another answer to it is newer, and the newest counts. A manager can take that one out "
    "with `/dataset remove`."
)


def lesson_is_news(lesson: Lesson) -> bool:
    """Whether it changes what is learned: only then everybody sees the answer."""
    approved = lesson.example.status is ReviewStatus.APPROVED
    return approved and not (lesson.repeated or lesson.superseded)


def lesson_text(lesson: Lesson, count: int, *, at_once: bool) -> str:
    """What was taught, and when it is learned; `count` examples are stored in all. `at_once`: what
    was taught is said before it is learned."""
    question, answer = lesson.example.user, lesson.example.bot
    following = _next_step(lesson, count, at_once=at_once)
    values = {"question": question, "answer": answer, "next": following}
    if lesson.repeated:
        return say(
            "You have taught me that already: to “{question}” I should answer “{answer}”\n"
            "-# {next}",
            **values,
        )
    return say("Noted. To “{question}” I should answer: “{answer}”\n-# {next}", **values)


def other_lessons_text(lesson: Lesson, others: Sequence[Lesson]) -> str:
    """Lines below `lesson_text`: the other wordings that were taught with a lesson."""
    usual = _obstacle(lesson)
    return wordings_text([(one.example.user, _obstacle(one)) for one in others], usual)


def other_corrections_text(example: Example, others: Sequence[Example]) -> str:
    """The same below the confirmation of a better answer."""
    steps = [(one.user, NEXT_STEP_BY_STATUS[one.status]) for one in others]
    return wordings_text(steps, NEXT_STEP_BY_STATUS[example.status])


def wordings_text(steps: Sequence[tuple[str, Phrase | None]], usual: Phrase | None) -> str:
    """Each other wording with what becomes of it, if that is not the `usual`."""
    quoted: dict[Phrase | None, list[str]] = {usual: []}
    for wording, step in steps:
        text = say("“{text}”", text=quote_safely(wording, MAX_WORDING_CHARS))
        quoted.setdefault(step, []).append(text)
    lines = [
        say("-# The same answer to {wordings}.", wordings=say(", ").join(texts))
        if step == usual
        else say(
            "-# {wordings}: {next}",
            wordings=say(", ").join(texts),
            next=step or NEXT_STEP_BY_STATUS[ReviewStatus.APPROVED],
        )
        for step, texts in quoted.items()
        if texts
    ]
    return "".join(f"\n{line}" for line in lines)


def left_out_text(wordings: Sequence[str]) -> str:
    """A line that names the first of too many wordings, "" if there are not too many."""
    if len(wordings) <= MAX_WORDINGS:
        return ""
    return "\n" + say(
        "-# I take {most} other ways to ask at a time: teach me those from “{first}” on again.",
        most=MAX_WORDINGS,
        first=quote_safely(wordings[MAX_WORDINGS], MAX_WORDING_CHARS),
    )


def _obstacle(lesson: Lesson) -> Phrase | None:
    """Why a lesson is not learned at the next retrain; None if it is."""
    if lesson.example.status is not ReviewStatus.APPROVED:
        return NEXT_STEP_BY_STATUS[lesson.example.status]
    return SUPERSEDED if lesson.superseded else None


def _next_step(lesson: Lesson, count: int, *, at_once: bool) -> Phrase:
    examples = examples_text(count)
    if (obstacle := _obstacle(lesson)) is not None:
        return obstacle
    if at_once:
        return phrase(
            "I know it now. My model learns it at the next `/retrain` ({examples} so far).",
            examples=examples,
        )
    return phrase("I learn it at the next `/retrain` ({examples} so far).", examples=examples)

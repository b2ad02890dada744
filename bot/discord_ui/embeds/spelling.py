"""Warnings about answers that a model can hardly write, each a sentence."""

from __future__ import annotations

from bot.learning.spelling import HardAnswers
from i18n.phrase import Phrase, phrase, phrases
from i18n.reader import say
from model.spelling import Script

HARDLY = {
    Script.JAPANESE: phrase("{model} can hardly write Japanese"),
    Script.SIGNS: phrase("{model} can hardly write emoji"),
    Script.OTHER: phrase("{model} can hardly write its letters"),
}


def lesson_warning(hard: HardAnswers | None) -> str:
    """A line under the confirmation of a taught answer; "" if there is nothing to say."""
    if hard is None:
        return ""
    return "\n" + say("-# I will remember it, but {why}.", why=_why(hard))


def plan_warning(hard: HardAnswers | None) -> str:
    """A line of the plan of a retrain; "" if there is nothing to say."""
    if hard is None:
        return ""
    warning = phrases(
        "⚠️ {count} answer will hardly be learned: {why}.",
        "⚠️ {count:,} answers will hardly be learned: {why}.",
        hard.count,
        why=_why(hard),
    )
    return say(warning)


def _why(hard: HardAnswers) -> Phrase:
    hardly = phrase(HARDLY[hard.script], model=hard.model)
    if hard.better is None:
        return hardly
    return phrase("{hardly}; {other} can", hardly=hardly, other=hard.better)

"""What taught questions mean, and which of them a message asks, in whatever words.

The questions whose vectors are nearest are compared by the classifier (`paraphrases`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from core.japanese import has_japanese_letter
from data.questions.encoder import Vector, encoder
from data.questions.likeness import is_vague
from data.questions.paraphrases import classifier, compare, read
from data.questions.question import Asks
from i18n.catalogue import ENGLISH, JAPANESE

LEAST, LEAST_UNASKED = {ENGLISH: 0.4, JAPANESE: 0.5}, 0.7
"""The probability from which on a message asks what a taught question asks; the second is for a
message in which nothing is seen to be asked."""
LONGEST = 150
"""Characters: who writes more tells something."""
PERHAPS = 0.2
"""From here on nobody can say that it surely asks something else."""
NEAREST, LEAST_NEARNESS = 6, 0.3
"""How many questions are compared at most, and the least cosine of their vectors: nineteen of
twenty rewordings are nearer, and hardly any message of everyday talk."""


def language_of(text: str) -> str:
    """The language whose classifier reads a text."""
    return JAPANESE if has_japanese_letter(text) else ENGLISH


def asks(message: str) -> bool:
    """Whether something is seen to be asked, by its words or its mark."""
    return "?" in message or "？" in message or read(message).question.asks is not Asks.NOTHING


def probability(message: str, questions: Sequence[str]) -> Mapping[str, float]:
    """How likely a message asks what each of the questions in its language asks."""
    language = language_of(message)
    alike = [one for one in questions if language_of(one) == language]
    if not alike:
        return {}
    found = classifier(language).probabilities(compare(message, alike))
    return dict(zip(alike, map(float, found), strict=True))


def perhaps_asks(message: str, question: str) -> bool:
    """Whether nobody can say that a message surely asks something else."""
    return any(one >= PERHAPS for one in probability(message, [question]).values())


def _has_content(text: str) -> bool:
    question = read(text).question
    return not is_vague(question) and question.asks is not Asks.NOTHING and bool(question.strong)


class Meanings:
    """The questions under each number, by what they mean."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}
        self._short: dict[int, Vector] = {}
        self._stacked: dict[str, tuple[list[int], Vector]] = {}

    def add(self, texts: Mapping[int, str]) -> None:
        """Read questions: some 0.4 ms each, a second more for the first one of a process. Greetings
        and statements are left to the rules, which compare them word by word."""
        asking = {number: text for number, text in texts.items() if _has_content(text)}
        vectors = encoder().encode(list(asking.values())) if asking else ()
        for (number, text), vector in zip(asking.items(), vectors, strict=True):
            self._texts[number] = text
            self._short[number] = vector @ classifier(language_of(text)).short
        self._stacked.clear()

    def remove(self, number: int) -> None:
        """Remove a question, if it is there."""
        if self._texts.pop(number, None) is not None:
            del self._short[number]
            self._stacked.clear()

    def find(self, message: str) -> int | None:
        """The number of the question that is likeliest asked; None if none is."""
        if not self._texts or len(message) > LONGEST or is_vague(read(message).question):
            return None
        nearest = self._nearest(message)
        found = probability(message, [self._texts[one] for one in nearest])
        least = LEAST[language_of(message)] if asks(message) else LEAST_UNASKED
        likely = [one for one in nearest if found[self._texts[one]] >= least]
        return max(likely, key=lambda one: (found[self._texts[one]], one), default=None)

    def _nearest(self, message: str) -> list[int]:
        language = language_of(message)
        nearest, stacked = self._of(language)
        if not nearest:
            return []
        vector = encoder().vectors([message])[message]
        if len(nearest) > NEAREST:
            nearness = stacked @ (vector @ classifier(language).short)
            nearest = [nearest[at] for at in np.argpartition(-nearness, NEAREST)[:NEAREST]]
        vectors = encoder().vectors([self._texts[one] for one in nearest])
        return [one for one in nearest if vectors[self._texts[one]] @ vector >= LEAST_NEARNESS]

    def _of(self, language: str) -> tuple[list[int], Vector]:
        if (known := self._stacked.get(language)) is None:
            numbers = [one for one in self._short if language_of(self._texts[one]) == language]
            rows = [self._short[one] for one in numbers]
            known = numbers, np.stack(rows) if rows else np.empty((0, 0), np.float32)
            self._stacked[language] = known
        return known

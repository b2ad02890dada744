"""An index of taught questions that finds the one which a message asks in other words.

Where the rules of `likeness` find nothing, the questions whose vectors are nearest are compared by
the classifier (`paraphrases`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from core.japanese import has_japanese_letter
from data.questions.encoder import Vector, encoder
from data.questions.likeness import Likeness, Match, TaughtQuestions
from data.questions.paraphrases import classifier, compare, read
from data.questions.question import Asks
from i18n.catalogue import ENGLISH, JAPANESE

LEAST, LEAST_UNASKED = {ENGLISH: 0.4, JAPANESE: 0.5}, 0.9
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


class RewordedQuestions(TaughtQuestions):
    """Taught questions that are found in other words, too."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[int, str] = {}
        self._short: dict[int, Vector] = {}
        self._stacked: dict[str, tuple[list[int], Vector]] = {}

    def add(self, number: int, text: str) -> None:
        """Add a question, in place of what was under that number; what it means is read later."""
        super().add(number, text)
        self._texts[number] = text

    def remove(self, number: int) -> None:
        """Remove a question, if it is there."""
        super().remove(number)
        if self._texts.pop(number, None) is not None:
            self._short.pop(number, None)
            self._stacked.clear()

    def read_new(self) -> None:
        """Read what the questions mean that were added since: some 0.4 ms each, a second more the
        first time."""
        new = [number for number in self._texts if number not in self._short]
        if new:
            vectors = encoder().encode([self._texts[number] for number in new])
            for number, vector in zip(new, vectors, strict=True):
                self._short[number] = vector @ classifier(language_of(self._texts[number])).short
            self._stacked.clear()

    def find(self, text: str) -> Match | None:
        """The taught question that is asked, in whatever words; None if it is none of them."""
        return super().find(text) or self._find_reworded(self.respelled(text))

    def compare(self, text: str, number: int) -> Likeness:
        """How like the question under a number a question is."""
        verdict = super().compare(text, number)
        if verdict is Likeness.OTHER and any(
            one >= PERHAPS for one in probability(text, [self._texts[number]]).values()
        ):
            return Likeness.UNSURE
        return verdict

    def _find_reworded(self, message: str) -> Match | None:
        if len(message) > LONGEST:
            return None
        self.read_new()
        nearest = self._nearest(message)
        found = probability(message, [self._texts[one] for one in nearest])
        least = LEAST[language_of(message)] if asks(message) else LEAST_UNASKED
        likely = [one for one in nearest if found[self._texts[one]] >= least]
        if not likely:
            return None
        best = max(likely, key=lambda one: (found[self._texts[one]], one))
        return Match(best, self._texts[best])

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

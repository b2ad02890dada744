"""What taught questions mean, and which of them a message asks, in whatever words.

The questions whose vectors are nearest are compared by the classifier (`paraphrases`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from core.japanese import has_japanese_letter
from core.text_caches import keeps_texts
from data.questions.encoder import Vector, encoder
from data.questions.likeness import is_like, is_vague
from data.questions.paraphrases import classifier, compare, read
from data.questions.question import Asks
from data.questions.synonyms import common_words
from i18n.catalogue import ENGLISH, JAPANESE


class Chance(NamedTuple):
    """How likely a message asks what a taught question asks, and not what a near miss of it asks;
    and not something else altogether."""

    not_near: float
    not_far: float

    @property
    def product(self) -> float:
        """How likely it is neither."""
        return self.not_near * self.not_far


class Least(NamedTuple):
    """The chances from which on a message asks what a taught question asks. `not_far_unclear` is
    for a message whose vector is less near than AT_HAND, or in which nothing is seen to be asked:
    so it is in most everyday talk, and in every fourth rewording."""

    not_near: float
    not_far: float
    not_far_unclear: float


LEAST = {ENGLISH: Least(0.4, 0.2, 0.4), JAPANESE: Least(0.4, 0.3, 0.4)}
"""Chosen on the facts for tuning. In Japanese a near miss is more easily taken for a rewording."""
AT_HAND = 0.45
LEAST_AHEAD = 0.1
"""How much less likely another taught question must be."""
CACHED_VERDICTS = 1000
LONGEST = 150
"""Characters: who writes more tells something."""
PERHAPS = 0.4
"""From here on nobody can say that it surely asks something else."""
NEAREST, LEAST_NEARNESS = 6, 0.3
"""How many questions are compared at most, and the least cosine of their vectors: nineteen of
twenty rewordings are nearer, and hardly any message of everyday talk."""
PROPER_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
POSSESSIVE = re.compile(r"['’]s?$")
SENTENCE_START = re.compile(r"(?:^|[.!?:\n])[\W_]*$")


def language_of(text: str) -> str:
    """The language whose classifier reads a text."""
    return JAPANESE if has_japanese_letter(text) else ENGLISH


def asks(message: str) -> bool:
    """Whether something is seen to be asked, by its words or its mark."""
    return "?" in message or "？" in message or read(message).question.asks is not Asks.NOTHING


def chances(message: str, answers: Mapping[str, str]) -> Mapping[str, Chance]:
    """How likely a message asks what each of the questions in its language asks, rather than what
    those with another answer ask. `answers`: the answer to each question."""
    language = language_of(message)
    alike = {one: answer for one, answer in answers.items() if language_of(one) == language}
    if not alike:
        return {}
    compared = compare(message, list(alike), answers=list(alike.values()))
    found = classifier(language).chances(compared)
    return {one: Chance(*map(float, row)) for one, row in zip(alike, found, strict=True)}


@keeps_texts
@lru_cache(CACHED_VERDICTS)
def perhaps_asks(message: str, question: str) -> bool:
    """Whether nobody can say that a message surely asks something else."""
    if len(message) > LONGEST or not names_agree(message, question):
        return False
    return any(min(one) >= PERHAPS for one in chances(message, {question: ""}).values())


@dataclass(frozen=True, slots=True)
class Meaning:
    """A taught question that was read, with its answer: its language and its vector, shortened to
    find it by; None for greetings and statements, which the rules compare word by word."""

    text: str
    answer: str
    language: str
    short: Vector | None


def read_meanings(pairs: Mapping[int, tuple[str, str]]) -> dict[int, Meaning]:
    """Read questions with their answers: less than a millisecond each, a second or two more for the
    first one of a process. It may run in a thread."""
    asking = [text for text, _ in pairs.values() if _has_content(text)]
    vectors = dict(zip(asking, encoder().encode(asking), strict=True)) if asking else {}
    return {
        number: _meaning(text, answer, vectors.get(text))
        for number, (text, answer) in pairs.items()
    }


def _meaning(text: str, answer: str, vector: Vector | None) -> Meaning:
    language = language_of(text)
    short = None if vector is None else vector @ classifier(language).short
    return Meaning(text, answer, language, short)


def _has_content(text: str) -> bool:
    question = read(text).question
    return not is_vague(question) and question.asks is not Asks.NOTHING and bool(question.strong)


class Meanings:
    """The questions under each number, by what they mean."""

    def __init__(self) -> None:
        self._known: dict[int, Meaning] = {}
        self._stacked: dict[str, tuple[list[int], Vector]] = {}

    def add(self, read: Mapping[int, Meaning]) -> None:
        """Add questions, in place of what was under their numbers."""
        self._known.update(read)
        self._stacked.clear()

    def remove(self, number: int) -> None:
        """Remove a question, if it is there."""
        if self._known.pop(number, None):
            self._stacked.clear()

    def find(self, message: str) -> int | None:
        """The number of the question that is likeliest asked; None if none is, or if another one
        with another answer is nearly as likely."""
        if len(message) > LONGEST or is_vague(read(message).question):
            return None
        chance = self._likely(message)
        best = max(chance, key=lambda number: (chance[number].product, number), default=None)
        if best is None:
            return None
        meant, close = self._known[best], chance[best].product - LEAST_AHEAD
        rivals = {
            self._text(number)
            for number, one in chance.items()
            if one.product > close and self._known[number].answer != meant.answer
        }
        return best if all(is_like(one, meant.text) for one in rivals) else None

    def _text(self, number: int) -> str:
        return self._known[number].text

    def _likely(self, message: str) -> dict[int, Chance]:
        """The questions that it may ask, with their chances."""
        language = language_of(message)
        nearest, stacked = self._of(language)
        if not nearest:
            return {}
        vector = encoder().vectors([message])[message]
        if len(nearest) > NEAREST:
            nearness = stacked @ (vector @ classifier(language).short)
            nearest = [nearest[at] for at in np.argpartition(-nearness, NEAREST)[:NEAREST]]
        answers = {self._text(number): self._known[number].answer for number in nearest}
        found, vectors = chances(message, answers), encoder().vectors(answers)
        least, is_asking, likely = LEAST[language], asks(message), {}
        for number in nearest:
            text = self._text(number)
            chance, nearness = found[text], vectors[text] @ vector
            is_clear = is_asking and nearness >= AT_HAND
            if (
                nearness >= LEAST_NEARNESS
                and chance.not_near >= least.not_near
                and chance.not_far >= (least.not_far if is_clear else least.not_far_unclear)
                and _numbers_agree(message, text)
                and names_agree(message, text)
            ):
                likely[number] = chance
        return likely

    def _of(self, language: str) -> tuple[list[int], Vector]:
        if (stacked := self._stacked.get(language)) is None:
            rows = {
                number: one.short
                for number, one in self._known.items()
                if one.short is not None and one.language == language
            }
            empty = np.empty((0, 0), np.float32)
            stacked = list(rows), np.stack(list(rows.values())) if rows else empty
            self._stacked[language] = stacked
        return stacked


def _numbers_agree(message: str, question: str) -> bool:
    """Whether they do not name different numbers."""
    ours, theirs = _numbers(message), _numbers(question)
    return not (ours and theirs) or ours == theirs


def _numbers(text: str) -> set[str]:
    return {word.lemma for _, word in read(text).words if word.lemma.isdigit()}


def proper_names(text: str) -> frozenset[str]:
    """The names in a text, in small letters: words with one capital letter, at their beginning,
    that begin no sentence. None in a text that writes common words so, too."""
    inside = (
        one for one in PROPER_WORD.finditer(text) if not SENTENCE_START.search(text, 0, one.start())
    )
    capitals = (one[0] for one in inside if one[0][0].isupper() and one[0][1:].islower())
    names = frozenset(POSSESSIVE.sub("", one).casefold() for one in capitals)
    return names if names.isdisjoint(common_words()) else frozenset()


def names_agree(one: str, other: str) -> bool:
    """Whether two texts do not name different names: each one that the other does not."""
    return not (_lacks_a_name(other, of=one) and _lacks_a_name(one, of=other))


def _lacks_a_name(text: str, of: str) -> bool:
    said = text.casefold()
    return any(name not in said for name in proper_names(of))

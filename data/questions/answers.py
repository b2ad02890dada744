"""Finds the taught answers that a reply repeats, nearly word for word. Pure.

An answer is found by its rarest words and compared only then, so a large data set costs no more.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from difflib import SequenceMatcher

from core.japanese import has_japanese_letter
from data.questions.japanese import RUN
from data.questions.synonyms import common_words
from data.questions.words import WORD

MIN_RATIO = 0.75
"""The likeness (as difflib has it) from which on a reply is the taught answer."""
FOUND_BY_WORDS = 3
"""Words under which an answer is found: a reply that is nearly equal has one of them."""
MIN_BEGINNING = 12
"""Characters of an answer's beginning, and at least half of it, that give the answer away."""
SLACK = 3
"""Characters by which a beginning may be longer or shorter than that of the answer."""
MAX_TRIVIAL_WORDS, MAX_TRIVIAL_CHARS = 3, 5
"""Answers as short as “Yes, of course.” fit anywhere. The second is for Japanese."""
_BETWEEN_WORDS = re.compile(r"[\W_]+")


class TaughtAnswers:
    """An index of taught answers, each under a number."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._by_word: dict[str, set[int]] = defaultdict(set)

    def add(self, number: int, answer: str) -> None:
        """Add an answer, unless it is too short to belong to one question only."""
        self.remove(number)
        plain, words = _plain(answer), _words(answer)
        if not plain or _is_trivial(plain, words):
            return
        rarest = sorted(set(words), key=lambda word: (len(self._by_word.get(word, ())), word))
        found_by = tuple(rarest[:FOUND_BY_WORDS])
        self._texts[number] = (plain, found_by)
        for word in found_by:
            self._by_word[word].add(number)

    def remove(self, number: int) -> None:
        """Remove an answer, if it is there."""
        _, found_by = self._texts.pop(number, ("", ()))
        for word in found_by:
            self._by_word[word].discard(number)
            if not self._by_word[word]:
                del self._by_word[word]

    def repeated_in(self, reply: str) -> list[int]:
        """The answers that a reply, or the part of it that is there, gives."""
        plain = _plain(reply)
        found = {number for word in set(_words(reply)) for number in self._by_word.get(word, ())}
        return sorted(one for one in found if _repeats(plain, self._texts[one][0]))


def _repeats(reply: str, answer: str) -> bool:
    if reply.startswith(answer):
        return True
    if answer.startswith(reply):
        return len(reply) >= max(MIN_BEGINNING, len(answer) / 2)
    matcher = SequenceMatcher(None, reply, answer, autojunk=False)
    quick = matcher.real_quick_ratio() >= MIN_RATIO and matcher.quick_ratio() >= MIN_RATIO
    return quick and matcher.ratio() >= MIN_RATIO


def answer_digest(answer: str) -> str | None:
    """A short hash of an answer, however it is spelled; None if it is too short to belong to one
    question only."""
    plain = _plain(answer)
    if not plain or _is_trivial(plain, _words(answer)):
        return None
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:16]


def may_become(reply: str, answer: str) -> bool:
    """Whether the part of a reply that is there is nearly the beginning of an answer."""
    said, expected = _plain(reply), _plain(answer)
    return expected.startswith(said) or _ratio(said, expected[: len(said) + SLACK]) >= MIN_RATIO


def is_near(reply: str, answer: str) -> bool:
    """Whether a reply is nearly the whole answer."""
    return _ratio(_plain(reply), _plain(answer)) >= MIN_RATIO


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _plain(text: str) -> str:
    return _BETWEEN_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).casefold()
    return RUN.findall(plain) if has_japanese_letter(plain) else WORD.findall(plain)


def _is_trivial(plain: str, words: list[str]) -> bool:
    if has_japanese_letter(plain):
        return len(plain) <= MAX_TRIVIAL_CHARS
    return len(words) <= MAX_TRIVIAL_WORDS and common_words().issuperset(words)

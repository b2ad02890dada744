"""Words that may stand for each other in a question, and the commonest words. Reads its own files.

A word is known by its keys: its lemma and the groups that it belongs to. Two words may stand for
each other if they share a key. A phrase of a group, such as “in charge of”, counts as one word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
SYNONYMS_EN = FOLDER / "synonyms.en.txt"
SYNONYMS_JA = FOLDER / "synonyms.ja.txt"
COMMON_EN = FOLDER / "common.en.txt"

Lemmas = tuple[str, ...]
"""The lemmas of a phrase."""


@dataclass(frozen=True, slots=True)
class Synonyms:
    """The groups of each word, and the phrases by their first word, longest first."""

    groups: Mapping[str, frozenset[str]]
    phrases: Mapping[str, Sequence[Lemmas]]

    def keys(self, lemma: str) -> frozenset[str]:
        """What a word is compared by."""
        return self.groups.get(lemma, frozenset()) | {lemma}

    def join_phrases(self, lemmas: Sequence[str]) -> list[str]:
        """The lemmas, with each known phrase as one of them."""
        joined, at = [], 0
        while at < len(lemmas):
            phrase = self._phrase_at(lemmas, at)
            joined.append(" ".join(phrase))
            at += len(phrase)
        return joined

    def _phrase_at(self, lemmas: Sequence[str], at: int) -> Lemmas:
        for phrase in self.phrases.get(lemmas[at], ()):
            if tuple(lemmas[at : at + len(phrase)]) == phrase:
                return phrase
        return (lemmas[at],)


def word_set(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


def read_synonyms(file: Path, lemmas_of: Callable[[str], Sequence[str]]) -> Synonyms:
    """The groups of a file, each a line; `lemmas_of` gives the lemmas of a word or phrase."""
    groups: dict[str, set[str]] = defaultdict(set)
    phrases: dict[str, set[Lemmas]] = defaultdict(set)
    for number, group in enumerate(groups_of(file)):
        for member in group:
            lemmas = tuple(lemmas_of(member))
            groups[" ".join(lemmas)].add(f"#{number}")
            if len(lemmas) > 1:
                phrases[lemmas[0]].add(lemmas)
    return Synonyms(
        {lemma: frozenset(found) for lemma, found in groups.items()},
        {first: sorted(found, key=len, reverse=True) for first, found in phrases.items()},
    )


@cache
def common_words() -> frozenset[str]:
    """The commonest words of English chat, as they are written."""
    return frozenset(word for line in lines_of(COMMON_EN) for word in line.split())


def lines_of(file: Path) -> Iterator[str]:
    """The lines of a data file that are no comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return (line for line in lines if line and not line.startswith("#"))


def groups_of(file: Path) -> Iterator[list[str]]:
    """The words and phrases of each group, as they are written."""
    return ([member.strip() for member in line.split(",")] for line in lines_of(file))


@cache
def _surfaces() -> Mapping[str, frozenset[str]]:
    """Each single word of the English groups, with the others of its groups."""
    others: dict[str, set[str]] = defaultdict(set)
    for group in groups_of(SYNONYMS_EN):
        for word in group:
            others[word] |= {one for one in group if one != word}
    return {word: frozenset(found) for word, found in others.items() if " " not in word}


def other_words(word: str) -> frozenset[str]:
    """The words and phrases that may stand for an English word."""
    return _surfaces().get(word.lower(), frozenset())

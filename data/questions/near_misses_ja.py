"""Near misses of Japanese questions: a word of a question is replaced by another of its kind, a
number by a number, a part of a compound, or any word by any noun.

Pure: equal seeds give equal sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random

from core.japanese import KANJI
from data.questions.japanese import KATAKANA, read_question
from data.questions.synonyms import FOLDER, SYNONYMS_JA, lines_of

_NOUN = re.compile(rf"[{KANJI}]{{2,}}|[{KATAKANA}]{{3,}}")
_NUMBER = re.compile(
    r"[0-9０-９]+|[一二三四五六七八九](?=番|つ|月|日|時|人|章|階|位|回|班|号|年|組)"
)
_COMPOUND = re.compile(rf"[{KANJI}]{{3,}}")
_STEM = re.compile(rf"(?![一二三四五六七八九])[{KANJI}]")
"""A single kanji is mostly the stem of a verb."""
_GROUPS = tuple(tuple(line.split()) for line in lines_of(FOLDER / "siblings.ja.txt"))
KIND_RATIO = 0.6
"""The share of words that are replaced by one of their kind, where there is any."""
RIVAL_RATIO = 0.2
"""The share that are replaced by a word of another taught question."""
PART_RATIO = 0.3
"""The share of compounds of which only the beginning is replaced."""


def near_miss(text: str, rng: Random, rivals: Sequence[str] = ()) -> str | None:
    """Another question of the same form; None if no word of it can be replaced. `rivals` are words
    of other taught questions."""
    words = content_words(text)
    if not words:
        return None
    old = rng.choice(words)
    new = _another(old, rng, rivals)
    return None if new in (None, old) else text.replace(old, str(new), 1)


def content_words(text: str) -> list[str]:
    """The words of a question by which it is this question."""
    asked = read_question(text)
    said = {word.lemma for word in (*asked.strong, *asked.weak) if word.lemma in text}
    kinds = {word for group in _GROUPS for word in group if len(word) > 1 and word in text}
    words = sorted(said | kinds | set(_NUMBER.findall(text)))
    return [word for word in words if not _STEM.fullmatch(word)] or words


def _another(old: str, rng: Random, rivals: Sequence[str]) -> str | None:
    if _NUMBER.fullmatch(old) or (old in _GROUPS_OF and rng.random() < KIND_RATIO):
        if old.isdecimal() and old.isascii():
            return str(rng.choice([n for n in range(1, 10) if str(n) != old]))
        kinds = [word for word in _GROUPS_OF.get(old, ()) if word != old]
        return rng.choice(kinds) if kinds else None
    if _COMPOUND.fullmatch(old) and rng.random() < PART_RATIO:
        return rng.choice([noun for noun in _nouns() if noun != old[:2]])[:2] + old[2:]
    others = [one for one in rivals if one not in old] if rng.random() < RIVAL_RATIO else []
    return rng.choice(others or [one for one in _nouns() if one not in same_words(old)])


_GROUPS_OF = {word: group for group in _GROUPS for word in group}


@cache
def same_words(word: str) -> frozenset[str]:
    """The word and those that mean the same."""
    return frozenset(one for group in _synonyms() if word in group for one in group) | {word}


@cache
def _synonyms() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(re.split(r",\s*", line)) for line in lines_of(SYNONYMS_JA))


@cache
def _nouns() -> tuple[str, ...]:
    """The first noun of each group of synonyms, and all words of a kind that are nouns."""
    firsts = (next(filter(_NOUN.fullmatch, group), "") for group in _synonyms())
    kinds = (word for group in _GROUPS for word in group if _NOUN.fullmatch(word))
    return tuple(dict.fromkeys(noun for noun in (*firsts, *kinds) if noun))

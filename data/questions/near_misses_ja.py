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
from data.questions.synonyms import FOLDER, SYNONYMS_JA, groups_of, lines_of

_NOUN = re.compile(rf"[{KANJI}]{{2,}}|[{KATAKANA}]{{3,}}")
_NUMERALS = "一二三四五六七八九"
_NUMBER = re.compile(rf"[0-9]+|[{_NUMERALS}](?=番|つ|月|日|時|人|章|階|位|回|班|号|年|組)")
_COMPOUND = re.compile(rf"[{KANJI}]{{3,}}")
_HIRAGANA = "ぁ-ゖー"
_STEM = re.compile(rf"[{KANJI}](?=[{_HIRAGANA}])(?![のがはをにでと、])")
"""A single kanji before hiragana that is no particle: mostly the stem of a verb."""
_GROUPS = tuple(tuple(line.split()) for line in lines_of(FOLDER / "siblings.ja.txt"))
SIBLINGS = {word: group for group in _GROUPS for word in group}
"""The words of each word's kind."""
KIND_RATIO = 0.6
"""The share of words that are replaced by one of their kind, where there is any."""
RIVAL_RATIO = 0.2
"""The share that are replaced by a word of another taught question."""
PART_RATIO = 0.3
"""The share of compounds of which only the beginning is replaced."""


def near_miss(
    text: str, rng: Random, rivals: Sequence[str] = (), words: Sequence[str] | None = None
) -> str | None:
    """Another question of the same form; None if no word of it can be replaced. `rivals` are words
    of other taught questions; `words` are the `content_words` of the text, if they are known."""
    words = content_words(text) if words is None else words
    if not words:
        return None
    old = rng.choice(words)
    taken = same_words(old)
    rivals = [one for one in rivals if one not in text and one not in taken]
    new = _another(old, taken, rng, rivals)
    return text.replace(old, new, 1) if new else None


def content_words(text: str) -> tuple[str, ...]:
    """The words of a question by which it is this question."""
    asked = read_question(text)
    said = {word.lemma for word in (*asked.strong, *asked.weak) if word.lemma in text}
    said |= {word for word in SIBLINGS if _is_word(word, text)}
    stems = set(_STEM.findall(text))
    return tuple(sorted((said - stems) | set(_NUMBER.findall(text))))


def _is_word(word: str, text: str) -> bool:
    """Whether a word of a kind is one in this text, and no part of another one."""
    letters = KANJI if re.fullmatch(f"[{KANJI}]+", word) else _HIRAGANA
    after = "(?=さん|くん|ちゃん|様|[のがはをにでとも、？?]|$)" if letters == _HIRAGANA else ""
    found = re.search(rf"(?<![{letters}]){re.escape(word)}{after}", text)
    return found is not None and (letters == _HIRAGANA or _ends_here(text[found.end() :]))


def _ends_here(rest: str) -> bool:
    return not re.match(f"[{KANJI}]", rest)


def _another(old: str, taken: frozenset[str], rng: Random, rivals: Sequence[str]) -> str | None:
    if old.isdecimal():
        return str(rng.choice([n for n in range(1, 10) if str(n) != old]))
    kinds = [word for word in SIBLINGS.get(old, ()) if word != old]
    if old in _NUMERALS or (kinds and rng.random() < KIND_RATIO):
        return rng.choice(kinds)
    if _COMPOUND.fullmatch(old) and rng.random() < PART_RATIO:
        return rng.choice([noun for noun in _nouns() if noun != old[:2]])[:2] + old[2:]
    others = rivals if rng.random() < RIVAL_RATIO else ()
    return rng.choice(others or [one for one in _nouns() if one not in taken])


def same_words(word: str) -> frozenset[str]:
    """The word and those that mean the same."""
    return frozenset(one for group in _synonyms() if word in group for one in group) | {word}


@cache
def _synonyms() -> tuple[tuple[str, ...], ...]:
    return tuple(map(tuple, groups_of(SYNONYMS_JA)))


@cache
def _nouns() -> tuple[str, ...]:
    """The first noun of each group of synonyms, and all words of a kind that are nouns."""
    firsts = (next(filter(_NOUN.fullmatch, group), "") for group in _synonyms())
    kinds = (word for group in _GROUPS for word in group if _NOUN.fullmatch(word))
    return tuple(dict.fromkeys(noun for noun in (*firsts, *kinds) if noun))

"""Near misses of Japanese questions: one word of a question is replaced by a noun of another kind.

Pure: equal seeds give equal sentences.
"""

from __future__ import annotations

import re
from functools import cache
from random import Random

from core.japanese import KANJI
from data.questions.japanese import KATAKANA, read_question
from data.questions.synonyms import SYNONYMS_JA, lines_of

_NOUN = re.compile(rf"[{KANJI}]{{2,}}|[{KATAKANA}]{{3,}}")


def near_miss(text: str, rng: Random) -> str | None:
    """Another question of the same form; None if no word of it can be replaced."""
    asked = read_question(text)
    said = [word.lemma for word in (*asked.strong, *asked.weak) if word.lemma in text]
    if not said:
        return None
    old = rng.choice(said)
    others = [noun for noun in _nouns() if noun not in text and noun not in asked.core]
    return text.replace(old, rng.choice(others), 1)


@cache
def _nouns() -> tuple[str, ...]:
    """The first noun of each group of synonyms: no two of them mean the same."""
    groups = (re.split(r",\s*", line) for line in lines_of(SYNONYMS_JA))
    firsts = (next(filter(_NOUN.fullmatch, group), "") for group in groups)
    return tuple(noun for noun in firsts if noun)

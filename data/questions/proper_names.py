"""Proper names in a question, as far as capital letters tell. Pure."""

from __future__ import annotations

import re

from data.questions.synonyms import common_words

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
POSSESSIVE = re.compile(r"['’]s?$")
SENTENCE_START = re.compile(r"(?:^|[.!?:\n])[\W_]*$")


def proper_names(text: str) -> frozenset[str]:
    """The names in a text, in small letters: words with one capital letter, at their beginning,
    that begin no sentence. None in a text that writes common words so, too."""
    inside = (one for one in WORD.finditer(text) if not SENTENCE_START.search(text, 0, one.start()))
    capitals = (one[0] for one in inside if one[0][0].isupper() and one[0][1:].islower())
    names = frozenset(POSSESSIVE.sub("", one).casefold() for one in capitals)
    return names if names.isdisjoint(common_words()) else frozenset()


def names_agree(one: str, other: str) -> bool:
    """Whether two texts do not name different names: each one that the other does not."""
    return not (_lacks_a_name(other, of=one) and _lacks_a_name(one, of=other))


def _lacks_a_name(text: str, of: str) -> bool:
    said = text.casefold()
    return any(name not in said for name in proper_names(of))

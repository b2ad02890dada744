"""A key under which two ways of writing a question are equal. Pure."""

from __future__ import annotations

import re
import unicodedata

_NO_LETTER_OR_DIGIT = re.compile(r"[\W_]+")
_MARKUP = re.compile(r"<a?:(\w+):\d+>|<[^<>\s]*>")
"""Discord's emoji, of which the name counts, mentions and links in brackets."""


def question_key(text: str) -> str:
    """The case-folded letters and digits of a text, or all of it if it has none.

    It forgives more than `data.dataset.rivals`: two questions of which only one would be learned
    have the same key.
    """
    plain = unicodedata.normalize("NFKC", _MARKUP.sub(r"\1", text)).casefold()
    return _NO_LETTER_OR_DIGIT.sub("", plain) or " ".join(plain.split())

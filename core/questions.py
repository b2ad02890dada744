"""Ways of writing a question: which of them are equal, and lists of them. Pure."""

from __future__ import annotations

import re
import unicodedata

_MARKUP = re.compile(r"<a?:(\w+):\d+>|<[^<>\s]*>|`")
"""Discord's emoji, of which the name counts, mentions and links in brackets; marks of code."""
_BETWEEN_WORDINGS = re.compile(r"[;；|\r\n]")
_PUNCTUATION = re.compile(r"[^\w+#]|_")
_END_MARKS = " .,!?;:…。、"
"""What people leave out at the end of a question, or repeat."""


def split_wordings(text: str) -> list[str]:
    """The wordings of a question in a list that somebody typed: separated by semicolons, bars or
    line breaks."""
    return [one.strip() for one in _BETWEEN_WORDINGS.split(text) if one.strip()]


def question_key(text: str) -> str:
    """The case-folded letters and digits of a text (and the signs of C++ and C#), or all of it if
    it has none: what a person would call the same."""
    plain = plain_question(text)
    return _PUNCTUATION.sub("", plain) or plain


def plain_question(text: str) -> str:
    """A text without case, markup, invisible characters, punctuation at its end, and differences of
    width or white space.

    It forgives a little more than `data.dataset.rivals`: two questions of which only one would be
    learned are equal here.
    """
    plain = " ".join(_MARKUP.sub(r"\1", text).casefold().split())
    if plain.isascii() and plain.isprintable():  # most are: the rest is slow
        return without_end_marks(plain)
    plain = unicodedata.normalize("NFKC", plain).casefold()
    shown = (char for char in plain if char.isspace() or unicodedata.category(char)[0] != "C")
    return without_end_marks(" ".join("".join(shown).split()))


def without_end_marks(text: str) -> str:
    """A text without punctuation at its end, unless it is nothing else."""
    return text.rstrip(_END_MARKS) or text

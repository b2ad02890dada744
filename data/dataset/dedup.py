"""A key under which near duplicates of a text are equal. Pure."""

from __future__ import annotations

import re
import unicodedata

from core.japanese import FULL_WIDTH, JAPANESE_LETTERS, LATIN_WORD_END

REPEATED_LETTERS = re.compile(r"([^\W\d_])\1{2,}")
"""Three or more of the same letter, which no word has. Digits don't count: "1000" is not "10"."""
LAUGHTER = re.compile(
    rf"(?<![w\uff57])(?<=[{JAPANESE_LETTERS}{FULL_WIDTH}])[w\uff57]++{LATIN_WORD_END}"
    r"|[(\uff08]笑[)\uff09]"
)
"""Japanese laughter marks: “すごいｗｗｗ（笑）”."""
EMOJI_SHORTCODE = re.compile(r":(?=\w*[^\W\d])\w{2,32}:")


def dedup_key(text: str) -> str:
    """The case-folded words of a text without punctuation and emoji; linear in its length.

    Drawn-out letters ("heyyy") count once, but "good" differs from "god". Marks on letters count:
    they tell words apart in many languages. A text with no words is its own key."""
    text = " ".join(text.casefold().split())
    if not text.isascii():
        text = LAUGHTER.sub("", text) or text
    without_emoji = EMOJI_SHORTCODE.sub(" ", text) if ":" in text else text
    words = " ".join(without_emoji.translate(_WORD_CHARS).split())
    return REPEATED_LETTERS.sub(r"\1", words) or text


class _WordCharTable(dict[int, int | None]):
    """For `str.translate`: keeps letters, marks, numbers and spaces. Filled on demand."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        kept = category[0] in "LMNZ" and category != "Me" and not 0xFE00 <= code <= 0xFE0F
        return self.setdefault(code, code if kept else None)


_WORD_CHARS = _WordCharTable()

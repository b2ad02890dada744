"""When two texts are nearly the same. Pure."""

from __future__ import annotations

import re
import unicodedata

from core.japanese import FULL_WIDTH, JAPANESE_LETTERS, LATIN_WORD_END

REPEATED_LETTERS = re.compile(r"([^\W\d_])\1{2,}")
"""A letter three times or more: no word is spelled so, and digits are not letters."""
LAUGHTER = re.compile(
    rf"(?<![w\uff57])(?<=[{JAPANESE_LETTERS}{FULL_WIDTH}])[w\uff57]++{LATIN_WORD_END}"
    r"|[(\uff08]笑[)\uff09]"
)
"""“すごいｗｗｗ（笑）”: no words either."""
EMOJI_SHORTCODE = re.compile(r":(?=\w*[^\W\d])\w{2,32}:")


def dedup_key(text: str) -> str:
    """What nearly equal texts have in common: words in lower case, without punctuation and emoji.

    A letter that is drawn out ("heyyy") counts once, while "good" stays apart from "god". Marks on
    letters count: without them words of many languages would be the same. A text of emoji or
    punctuation alone is its own form. Takes time in proportion to the text.
    """
    text = " ".join(text.casefold().split())
    if not text.isascii():
        text = LAUGHTER.sub("", text) or text
    spoken = EMOJI_SHORTCODE.sub(" ", text) if ":" in text else text
    words = " ".join(spoken.translate(_WORD_CHARS).split())
    return REPEATED_LETTERS.sub(r"\1", words) or text


class _WordCharTable(dict[int, int | None]):
    """For `str.translate`: letters, their marks, numbers and spaces stay. Fills itself."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        stays = category[0] in "LMNZ" and category != "Me" and not 0xFE00 <= code <= 0xFE0F
        return self.setdefault(code, code if stays else None)


_WORD_CHARS = _WordCharTable()

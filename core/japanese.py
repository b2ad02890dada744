"""Japanese text: which letters it has, and whether a text is written in it.

Pure: texts in, values out. Knows scripts, not words.
"""

from __future__ import annotations

import re

KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
KANJI = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
JAPANESE_LETTERS = rf"{KANA}{KANJI}"
"""For a class of a regular expression: the letters of words without spaces between them."""
LATIN_WORD_START, LATIN_WORD_END = rf"(?<![^\W{JAPANESE_LETTERS}])", rf"(?![^\W{JAPANESE_LETTERS}])"
"""Regular expressions for the ends of a word in Latin letters: also beside Japanese ones."""
FULL_WIDTH = "\u3000-\u3002\u3008-\u301f\uff01-\uff65"
"""Its punctuation and full-width forms, such as 。、「」！？ and ｗ."""

FULL_WIDTH_TO_ASCII = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}
"""For `str.translate`: ASCII in its full-width form, which people type without meaning it."""

_KANA, _LETTER = re.compile(f"[{KANA}]"), re.compile(f"[{JAPANESE_LETTERS}]")
_WORD = re.compile(f"[{KANA}][{JAPANESE_LETTERS}]|[{KANJI}][{KANA}]")
_SIGN = re.compile(f"[{JAPANESE_LETTERS}{FULL_WIDTH}]")
_OTHER = re.compile(rf"[^\W\d_{JAPANESE_LETTERS}]")
_ADDRESS = re.compile(r"(?<![A-Za-z])[A-Za-z]++://\S+|<[^<>\s]+>")
"""Links and Discord's mentions and emoji: nobody's language."""
LATIN_LETTERS_PER_JAPANESE = 2
"""Letters of a word in Latin script that say about as much as one Japanese letter (2.5, by
`python -m benchmarks.tokens`)."""


def has_kana(text: str) -> bool:
    """Whether there is a letter that only Japanese has."""
    return _KANA.search(text) is not None


def has_japanese_word(text: str) -> bool:
    """Whether there is kana beside another letter: alone it may be part of a face, of which
    “¯\\_(ツ)_/¯” and “(╯°□°）╯ ノ” are known in all languages."""
    return _WORD.search(text) is not None


def has_japanese_letter(text: str) -> bool:
    """Whether there is a letter of Japanese, which may be one of Chinese too."""
    return _LETTER.search(text) is not None


def is_japanese(text: str) -> bool:
    """Whether a text is Japanese for the most part, as “このbotはPythonで動くの？” is."""
    text = _ADDRESS.sub(" ", text)
    return has_japanese_word(text) and LATIN_LETTERS_PER_JAPANESE * len(
        _LETTER.findall(text)
    ) >= len(_OTHER.findall(text))


def count_japanese_chars(text: str) -> int:
    """How many characters are Japanese letters, punctuation or full-width forms."""
    return len(_SIGN.findall(text))

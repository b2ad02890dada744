"""Recognizes Japanese by its scripts."""

from __future__ import annotations

import re

KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
KANJI = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
JAPANESE_LETTERS = rf"{KANA}{KANJI}"
"""For a regular expression's character class: letters of words that no spaces separate."""
LATIN_WORD_START, LATIN_WORD_END = rf"(?<![^\W{JAPANESE_LETTERS}])", rf"(?![^\W{JAPANESE_LETTERS}])"
"""Word boundaries of Latin words, which may be next to Japanese letters."""
FULL_WIDTH = "\u3000-\u3002\u3008-\u301f\uff01-\uff65"
"""Punctuation and full-width forms, such as 。、「」！？ and ｗ."""

FULL_WIDTH_TO_ASCII = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}
"""For `str.translate`: full-width forms, which people type by accident, to ASCII."""

_KANA, _LETTER = re.compile(f"[{KANA}]"), re.compile(f"[{JAPANESE_LETTERS}]")
_WORD = re.compile(f"[{KANA}][{JAPANESE_LETTERS}]|[{KANJI}][{KANA}]")
_SIGN = re.compile(f"[{JAPANESE_LETTERS}{FULL_WIDTH}]")
_OTHER = re.compile(rf"[^\W\d_{JAPANESE_LETTERS}]")
_ADDRESS = re.compile(r"(?<![A-Za-z])[A-Za-z]++://\S+|<[^<>\s]+>")
"""Links, and Discord's mentions and emoji: of no language."""
_ASCII_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?")
ENGLISH_WORDS = frozenset(
    re.split(
        " ",
        "the is it's i'm that this what what's how who when where why and of for with my your not "
        "don't can have know like want think hello please thanks there just get about if will",
    )
)
"""Frequent words that are no romaji and belong to no other large language."""
LATIN_LETTERS_PER_JAPANESE = 2
"""Latin letters that carry about as much as one Japanese letter (2.5, by `python -m
benchmarks.tokens`)."""


def has_kana(text: str) -> bool:
    """Whether it contains kana, which only Japanese uses."""
    return _KANA.search(text) is not None


def has_japanese_word(text: str) -> bool:
    """Whether kana is next to another letter: alone it may be part of an emoticon, of which
    “¯\\_(ツ)_/¯” and “(╯°□°）╯ ノ” are used in all languages."""
    return _WORD.search(text) is not None


def has_japanese_letter(text: str) -> bool:
    """Whether it contains kana or kanji; Chinese has the latter too."""
    return _LETTER.search(text) is not None


def is_japanese(text: str) -> bool:
    """Whether a text is mostly Japanese, such as “このbotはPythonで動くの？”."""
    text = _ADDRESS.sub(" ", text)
    return has_japanese_word(text) and LATIN_LETTERS_PER_JAPANESE * len(
        _LETTER.findall(text)
    ) >= len(_OTHER.findall(text))


def is_english(text: str) -> bool:
    """Whether a text is most likely English: three words or more, and one of the commonest among
    them that is no romaji."""
    words = _ASCII_WORD.findall(_ADDRESS.sub(" ", text).lower())
    return len(words) >= 3 and not _LETTER.search(text) and not ENGLISH_WORDS.isdisjoint(words)


def count_japanese_chars(text: str) -> int:
    """How many characters are Japanese letters, punctuation or full-width forms."""
    return len(_SIGN.findall(text))

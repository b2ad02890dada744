"""Whether a reply can be read: the scripts that it is written in, as far as a reader can tell them
apart, and bytes that are no character. Pure."""

from __future__ import annotations

import unicodedata

from model.chat_template import REPLACEMENT_CHAR

JAPANESE_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC")
READ_BY_ALL = frozenset({"LATIN", "MODIFIER", "MICRO", "FEMININE", "MASCULINE"})
"""Beginnings of the Unicode names of letters that are used beside every script."""


def is_text(reply: str) -> bool:
    """Whether there is any, and all of it is characters."""
    return bool(reply) and REPLACEMENT_CHAR not in reply


def scripts_in(text: str) -> frozenset[str]:
    """The scripts of its letters, but those that everybody can read; Japanese counts as one."""
    return frozenset(
        script for char in text if char.isalpha() and (script := _script(char)) not in READ_BY_ALL
    )


def _script(letter: str) -> str:
    """By the first word of its Unicode name: it tells apart what a reader can tell apart."""
    name = unicodedata.name(letter, "UNNAMED").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    first = name.split(" ")[0].split("-")[0]
    return "JAPANESE" if first in JAPANESE_SCRIPTS else first

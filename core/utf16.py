"""Lengths in UTF-16 code units, which is how Discord counts characters."""

from __future__ import annotations


def utf16_length(text: str) -> int:
    """The length of a text in UTF-16 code units."""
    return len(text) + sum(char > "\uffff" for char in text)


def truncate_utf16(text: str, limit: int) -> str:
    """The longest prefix of `text` within `limit` UTF-16 units."""
    used = 0
    for n, char in enumerate(text):
        used += 1 + (char > "\uffff")
        if used > limit:
            return text[:n]
    return text

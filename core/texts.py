"""How long texts are, and how they are cut. Discord counts characters in UTF-16 code units."""

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


def one_line(text: str, most: int) -> str:
    """The text as one line of at most `most` characters; … stands for what is cut off."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"

"""Cuts a text into messages that Discord accepts. Pure."""

from __future__ import annotations

from core.utf16 import truncate_utf16, utf16_length

MAX_MESSAGE_CHARS = 2000
"""Characters in one message, counted in UTF-16 code units as Discord's clients do."""
FENCE = "```"


def split_message(text: str, limit: int = MAX_MESSAGE_CHARS) -> list[str]:
    """Cut a text into parts of at most `limit` UTF-16 units, none of them blank.

    Cuts at a line end, else at a space, else (a word longer than the limit) anywhere between two
    characters. A code block that is cut is closed and opened again.
    """
    parts: list[str] = []
    rest, fence = text.strip(), ""
    while rest:
        head, rest = _cut(fence + rest, limit)
        fence = _open_fence(head)
        parts.append(f"{head}\n{FENCE}" if fence and rest else head)
    return parts or ["…"]


def _cut(text: str, limit: int) -> tuple[str, str]:
    if 2 * len(text) <= limit or utf16_length(text) <= limit:  # a character is at most two units
        return text, ""
    end = len(truncate_utf16(text, limit - len(FENCE) - 1))
    for mark in ("\n", " "):
        at = text.rfind(mark, 1, end + 1)
        if at > 0 and text[:at].rstrip().rstrip("`"):
            return text[:at].rstrip(), text[at:].strip("\n" if mark == "\n" else " ")
    return text[:end], text[end:]


def _open_fence(part: str) -> str:
    """The opening of the code block in which `part` ends, or nothing."""
    fences = [line for line in part.split("\n") if line.lstrip().startswith(FENCE)]
    return f"{fences[-1].strip()}\n" if len(fences) % 2 else ""

"""Cuts a text into messages that Discord accepts. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

import regex

from core.texts import truncate_utf16, utf16_length

MAX_MESSAGE_CHARS = 2000
"""Characters in one message, counted in UTF-16 code units as Discord's clients do."""
CHARACTER = regex.compile(r"\X")
"""A character as people see it (a grapheme cluster), such as a flag or a family of emoji."""
BLANK = re.compile(r"\s*")
GAP = re.compile(r"\s*\n|\s*")
"""What is dropped where a text is cut: blank lines, but not the indentation of the next line."""
MARKUP = re.compile(
    r"\\[^\w\s]"  # an escaped sign
    r"|(?P<inline>`{1,2})(?!`)[^\n]*?(?<!`)(?P=inline)(?!`)"  # code within a line
    r"|(?P<ticks>`+)(?P<language>[a-z0-9_+\-.#]{1,32}\n)?",
    re.IGNORECASE,
)
FENCE_TICKS = 3
"""Backticks that open a code block. More are closed by as many, so a block can contain three."""


def split_message(text: str, limit: int = MAX_MESSAGE_CHARS) -> list[str]:
    """Cut a text into parts of at most `limit` UTF-16 units, none of them blank.

    Cuts at a line end, else at a space, else (a word longer than the limit) between two characters.
    A code block that is cut is closed and opened again.
    """
    text = text.strip()
    if utf16_length(text) <= limit:
        return [text or "…"]
    splitter = _Splitter(text, find_code_blocks(text, max_fence=limit // 2))
    parts: list[str] = []
    start = 0
    while start < len(text):
        block = splitter.block_at(start)
        opening = block.opening if block else ""
        cut = splitter.cut(start, limit - len(opening))
        if body := text[start : cut.end].rstrip():
            parts.append(f"{opening}{body}{cut.closing}")
        start = cut.next_start
    return parts


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Where a code block and its content begin and end, and what closes and opens it again.

    `first` is the index of the first character in it that is not blank.
    """

    start: int
    content_start: int
    first: int
    content_end: int
    end: int
    opening: str
    closing: str


def find_code_blocks(text: str, max_fence: int) -> list[CodeBlock]:
    """The code blocks of a text, as Discord finds them: they begin and end anywhere in a line.

    A block that is not closed, which Discord shows as it is written, ends behind the text: the
    reply was cut off, or is still being written. Fences that together are longer than `max_fence`
    characters are plain text.
    """
    blocks: list[CodeBlock] = []
    position = 0
    while markup := MARKUP.search(text, position):
        position = markup.end()
        if len(markup["ticks"] or "") >= FENCE_TICKS:
            block = _read_block(text, markup)
            if len(block.opening + block.closing) <= max_fence:
                blocks.append(block)
                position = block.end
    return blocks


def _read_block(text: str, fence: re.Match[str]) -> CodeBlock:
    """The code block that begins with `fence`."""
    ticks, language = fence["ticks"], fence["language"] or ""
    end = text.find(ticks, fence.end())
    if end < 0 and (end := text.find("`" * FENCE_TICKS, fence.end("ticks"))) > 0:
        ticks, language = "`" * FENCE_TICKS, ""  # the other backticks are content
    content_start = fence.start() + len(ticks + language)
    return CodeBlock(
        start=fence.start(),
        content_start=content_start,
        first=_end_of(BLANK, text, content_start),
        content_end=end if end > 0 else len(text),
        end=end + len(ticks) if end > 0 else len(text) + 1,
        opening=ticks + (language or "\n"),
        closing="\n" + ticks,
    )


class _Cut(NamedTuple):
    """Where a part ends, what closes its code block, and where the next part begins."""

    end: int
    closing: str
    next_start: int


class _Splitter:
    """Finds the cuts in a text with code blocks. `room` is the space in a part, in UTF-16 units."""

    def __init__(self, text: str, blocks: list[CodeBlock]) -> None:
        self._text = text
        self._blocks = blocks
        self._starts = [block.start for block in blocks]

    def block_at(self, index: int) -> CodeBlock | None:
        """The block that a cut before `index` would divide."""
        block = self._block_around(index)
        return block if block and block.content_start <= index <= block.content_end else None

    def _block_around(self, index: int) -> CodeBlock | None:
        """The block whose content or fences a cut before `index` would divide."""
        n = bisect_left(self._starts, index) - 1
        return self._blocks[n] if n >= 0 and index < self._blocks[n].end else None

    def cut(self, start: int, room: int) -> _Cut:
        """Where to end the part that begins at `start`."""
        if (last := self._last_cut(start, room)) is not None:
            return last
        end = self._best_end(start, room) or self._hard_end(start, room)
        block = self.block_at(end)
        if block is None:
            return _Cut(end, "", _end_of(GAP, self._text, end))
        ends_here = _end_of(BLANK, self._text, end) >= block.content_end
        return _Cut(end, block.closing, _end_of(GAP, self._text, block.end if ends_here else end))

    def _last_cut(self, start: int, room: int) -> _Cut | None:
        """The end of the text, if the rest fits."""
        end = len(self._text)
        if end - start > room:
            return None
        block = self.block_at(end)  # one that is not closed
        closing = block.closing if block and block.start < start else ""
        fits = utf16_length(self._text[start:]) + len(closing) <= room
        return _Cut(end, closing, end) if fits else None

    def _best_end(self, start: int, room: int) -> int:
        """The last line end within `room`, else the last space, else the last character; 0: none.

        No code block is begun or opened again for nothing but blank lines.
        """
        ends = {"\n": 0, " ": 0, "": 0}
        first = _end_of(BLANK, self._text, start)
        used = 0
        # of a slice, as \X looks back to the start of a row of flags
        for character in CHARACTER.finditer(self._text[start : start + room + 2]):
            at, char = start + character.start(), character[0].replace("\r\n", "\n")
            block = self.block_at(at)
            needed = used + len(block.closing if block else "")
            begun = at > max(first, block.first if block else 0)
            if needed <= room and begun and block is self._block_around(at):
                ends[char if char in ends else ""] = at
            used += utf16_length(character[0])
        return ends["\n"] or ends[" "] or ends[""]

    def _hard_end(self, start: int, room: int) -> int:
        """The end within `room` of a part whose first character is longer than that."""
        window = self._text[start : start + room]
        end = start + len(truncate_utf16(window, room))
        if block := self._block_around(end):
            end = start + len(truncate_utf16(window, room - len(block.closing)))
        return max(end, start + 1)


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where a match that begins at `start` ends."""
    found = pattern.match(text, start)
    return found.end() if found else start

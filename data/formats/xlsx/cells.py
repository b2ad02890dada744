"""The cells of a sheet, as texts, read as a stream.

Knows the XML of sheets (ECMA-376, part 1, 18.3) and expat. openpyxl's own stream tells neither
merged cells, nor a formula that has no value from an empty cell, nor an escaped character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, time
from typing import IO, NamedTuple
from xml.parsers import expat

from openpyxl.utils.cell import column_index_from_string, range_boundaries
from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

from data.formats.table import Cell, Flaw
from data.formats.xlsx.package import no_doctype
from i18n.phrase import phrase

CHUNK = 1 << 16
MAX_COLUMNS = 256
"""Cells further to the right are not read."""
NO_VALUE = phrase(
    "A formula has no stored value: open the file in Excel and save it, or write the text itself."
)

Row = tuple[int, list[Cell]]
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


class Merge(NamedTuple):
    """A merged range, from 1; the last row and column belong to it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Style:
    """`dates` are the cell styles that show a date; `from_1904` says from where days count."""

    dates: frozenset[int]
    from_1904: bool = False


def unescaped(text: str) -> str:
    """With the characters that XML cannot hold, which are written as _xHHHH_ (22.9.2.19)."""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), text) if "_x" in text else text


def shared_texts(part: IO[bytes]) -> list[str]:
    """The texts that cells refer to by number, without readings (furigana)."""
    reader = _Texts()
    for _ in _parsed(part, reader.start, reader.end, reader.said):
        pass
    return reader.texts


def rows(part: IO[bytes], texts: list[str], style: Style) -> Iterator[Row]:
    """The rows of a sheet that have cells."""
    reader = _Rows(texts, style)
    for _ in _parsed(part, reader.start, reader.end, reader.said):
        yield from reader.rows
        reader.rows.clear()


def merges(part: IO[bytes]) -> list[Merge]:
    found = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.endswith("mergeCell"):
            left, top, right, bottom = range_boundaries(attributes["ref"])
            found.append(Merge(int(left or 1), int(top or 1), int(right or 1), int(bottom or 1)))

    for _ in _parsed(part, start, None, None):
        pass
    return found


def _parsed(
    part: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None,
    said: Callable[[str], None] | None,
) -> Iterator[None]:
    """Call the handlers; pause after each chunk."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = no_doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = said
    while chunk := part.read(CHUNK):
        parser.Parse(chunk)
        yield
    parser.Parse(b"", True)
    yield


class _Texts:
    """Handlers for texts in the shape that cells and the shared table have: `t` in an item."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._pieces: list[str] = []
        self._inside = self._reading = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(" ")[2]
        if tag == "t":
            self._inside = not self._reading
        elif tag == "rPh":
            self._reading = True

    def said(self, text: str) -> None:
        if self._inside:
            self._pieces.append(text)

    def end(self, name: str) -> None:
        tag = name.rpartition(" ")[2]
        if tag == "t":
            self._inside = False
        elif tag == "rPh":
            self._reading = False
        elif tag == "si":
            self.texts.append(unescaped("".join(self._pieces)))
            self._pieces.clear()


class _Rows:
    """Handlers for a sheet; whole rows gather in `rows`."""

    def __init__(self, texts: list[str], style: Style) -> None:
        self.rows: list[Row] = []
        self._texts = texts
        self._style = style
        self._number = self._column = 0
        self._cells: list[Cell] = []
        self._attributes: dict[str, str] = {}
        self._pieces: list[str] = []
        self._inside = self._reading = self._formula = self._valued = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match name.rpartition(" ")[2]:
            case "c":
                self._attributes = attributes
                self._pieces.clear()
                self._formula = self._valued = False
            case "v" | "t":
                self._inside = self._valued = not self._reading
            case "f":
                self._formula = True
            case "row":
                self._number = int(attributes.get("r", self._number + 1))
                self._column = 0
                self._cells = []
            case "rPh":
                self._reading = True

    def said(self, text: str) -> None:
        if self._inside:
            self._pieces.append(text)

    def end(self, name: str) -> None:
        match name.rpartition(" ")[2]:
            case "v" | "t":
                self._inside = False
            case "c":
                self._place()
            case "row":
                if self._cells:
                    self.rows.append((self._number, self._cells))
            case "rPh":
                self._reading = False

    def _place(self) -> None:
        place = self._attributes.get("r")
        if place:
            self._column = column_index_from_string(place.rstrip("0123456789"))
        else:
            self._column += 1
        value = self._value("".join(self._pieces))
        if value and self._column <= MAX_COLUMNS:
            self._cells += [""] * (self._column - len(self._cells))
            self._cells[self._column - 1] = value

    def _value(self, raw: str) -> Cell:
        kind = self._attributes.get("t", "n")
        if not raw:
            has_value = self._valued and kind == "str"  # the empty text
            return Flaw(NO_VALUE) if self._formula and not has_value else ""
        if kind == "n":
            return self._number_or_date(raw)
        match kind:
            case "s":
                return self._texts[int(raw)]
            case "inlineStr" | "str":
                return unescaped(raw)
            case "b":
                return "TRUE" if raw == "1" else "FALSE"
            case "e":
                return Flaw(phrase("A cell holds the error {raw}.", raw=raw[:20]))
        return raw  # a date as ISO 8601 has it

    def _number_or_date(self, raw: str) -> str:
        if int(self._attributes.get("s", 0)) in self._style.dates:
            return _date(float(raw), self._style.from_1904)
        return _number(raw)


def _number(raw: str) -> str:
    """As Excel shows it where the format is "General": with 15 digits at most."""
    return raw if raw.isdecimal() else f"{float(raw):.15g}"


def _date(days: float, from_1904: bool) -> str:
    try:
        moment = from_excel(days, CALENDAR_MAC_1904 if from_1904 else CALENDAR_WINDOWS_1900)
    except (OverflowError, ValueError):
        return f"{days:.15g}"
    if isinstance(moment, datetime) and moment.time() == time():
        return str(moment.date())
    return str(moment)

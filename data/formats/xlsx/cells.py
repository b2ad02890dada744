"""Streams the cells of a sheet as texts, from its XML (ECMA-376, part 1, 18.3) with expat.

openpyxl's read-only mode won't do: it ignores merged cells and escaped characters, and returns a
formula without a stored value as an empty cell, which would silently drop the row.
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

from data.formats.table import Cell, CellError
from data.formats.xlsx.package import forbid_doctype
from i18n.phrase import phrase

CHUNK_BYTES = 1 << 16
MAX_COLUMNS = 256
"""Cells to the right of this column are ignored."""
FORMULA_WITHOUT_VALUE = phrase(
    "A formula has no stored value: open the file in Excel and save it, or write the text itself."
)

SheetRow = tuple[int, list[Cell]]
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


class MergedRange(NamedTuple):
    """A merged range: columns and rows from 1, both ends inclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class DateStyles:
    """The ids of the cell styles that show dates, and whether day 0 is in 1904."""

    date_style_ids: frozenset[int]
    uses_1904_epoch: bool = False


def unescape_ooxml(text: str) -> str:
    """Decode _xHHHH_, the escape for characters that XML cannot hold (22.9.2.19)."""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), text) if "_x" in text else text


def read_shared_strings(part: IO[bytes]) -> list[str]:
    """The texts that cells refer to by index, without phonetic readings (furigana)."""
    reader = _SharedStringsHandler()
    for _ in _parse_chunks(part, reader.start, reader.end, reader.characters):
        pass
    return reader.texts


def iter_rows(part: IO[bytes], texts: list[str], style: DateStyles) -> Iterator[SheetRow]:
    """The rows of a sheet that are not empty."""
    reader = _SheetHandler(texts, style)
    for _ in _parse_chunks(part, reader.start, reader.end, reader.characters):
        yield from reader.rows
        reader.rows.clear()


def read_merged_ranges(part: IO[bytes]) -> list[MergedRange]:
    found = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.endswith("mergeCell"):
            found.append(MergedRange(*(int(n or 1) for n in range_boundaries(attributes["ref"]))))

    for _ in _parse_chunks(part, start, None, None):
        pass
    return found


def _parse_chunks(
    part: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None,
    characters: Callable[[str], None] | None,
) -> Iterator[None]:
    """Call the handlers; yield after each chunk."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = forbid_doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    while chunk := part.read(CHUNK_BYTES):
        parser.Parse(chunk)
        yield
    parser.Parse(b"", True)
    yield


class _TextHandler:
    """Handlers that gather the text of `t` and `v` elements, but not of phonetic readings."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._in_text = self._in_phonetic = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match name.rpartition(" ")[2]:
            case "v" | "t":
                self._in_text = not self._in_phonetic
            case "rPh":
                self._in_phonetic = True

    def characters(self, text: str) -> None:
        if self._in_text:
            self._pieces.append(text)

    def end(self, name: str) -> None:
        match name.rpartition(" ")[2]:
            case "v" | "t":
                self._in_text = False
            case "rPh":
                self._in_phonetic = False


class _SharedStringsHandler(_TextHandler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def end(self, name: str) -> None:
        super().end(name)
        if name.rpartition(" ")[2] == "si":
            self.texts.append(unescape_ooxml("".join(self._pieces)))
            self._pieces.clear()


class _SheetHandler(_TextHandler):
    """Handlers for a sheet that append complete rows to `rows`."""

    def __init__(self, texts: list[str], style: DateStyles) -> None:
        super().__init__()
        self.rows: list[SheetRow] = []
        self._texts = texts
        self._style = style
        self._row_number = self._column = 0
        self._cells: list[Cell] = []
        self._attributes: dict[str, str] = {}
        self._has_formula = self._has_value = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        super().start(name, attributes)
        match name.rpartition(" ")[2]:
            case "c":
                self._attributes = attributes
                self._pieces.clear()
                self._has_formula = self._has_value = False
            case "v" | "t":
                self._has_value = self._in_text
            case "f":
                self._has_formula = True
            case "row":
                self._row_number = int(attributes.get("r", self._row_number + 1))
                self._column = 0
                self._cells = []

    def end(self, name: str) -> None:
        super().end(name)
        match name.rpartition(" ")[2]:
            case "c":
                self._store_cell()
            case "row":
                if self._cells:
                    self.rows.append((self._row_number, self._cells))

    def _store_cell(self) -> None:
        if reference := self._attributes.get("r"):
            self._column = column_index_from_string(reference.rstrip("0123456789"))
        else:
            self._column += 1
        value = self._value("".join(self._pieces))
        if value and self._column <= MAX_COLUMNS:
            self._cells += [""] * (self._column - len(self._cells))
            self._cells[self._column - 1] = value

    def _value(self, raw: str) -> Cell:
        kind = self._attributes.get("t", "n")
        if not raw:
            is_empty_string = self._has_value and kind == "str"
            without_value = self._has_formula and not is_empty_string
            return CellError(FORMULA_WITHOUT_VALUE) if without_value else ""
        match kind:
            case "n":
                if int(self._attributes.get("s", 0)) in self._style.date_style_ids:
                    return _date(float(raw), self._style.uses_1904_epoch)
                # as Excel shows it in the format "General": with up to 15 digits
                return raw if raw.isdecimal() else f"{float(raw):.15g}"
            case "s":
                return self._texts[int(raw)]
            case "inlineStr" | "str":
                return unescape_ooxml(raw)
            case "b":
                return "TRUE" if raw == "1" else "FALSE"
            case "e":
                return CellError(phrase("A cell holds the error {raw}.", raw=raw[:20]))
        return raw  # a date in ISO 8601


def _date(days: float, from_1904: bool) -> str:
    try:
        moment = from_excel(days, CALENDAR_MAC_1904 if from_1904 else CALENDAR_WINDOWS_1900)
    except (OverflowError, ValueError):
        return f"{days:.15g}"
    is_midnight = isinstance(moment, datetime) and moment.time() == time()
    return str(moment.date() if is_midnight else moment)

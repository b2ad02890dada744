"""Streams the cells of a sheet as texts, from its XML (ECMA-376, part 1, 18.3) with expat.

openpyxl's read-only mode won't do: it ignores merged cells and escaped characters, and returns a
formula without a stored value as an empty cell, which would silently drop the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, NamedTuple
from xml.parsers import expat

from openpyxl.utils.cell import column_index_from_string, range_boundaries

from core.errors import ImportRefused
from data.formats.columns import MAX_COLUMNS
from data.formats.table import Cell, CellError
from data.formats.texts import has_lone_surrogates
from data.formats.xlsx.number_formats import NumberFormats, whole_number
from data.formats.xlsx.package import forbid_doctype
from i18n.phrase import phrase

CHUNK_BYTES = 1 << 16
MAX_EMPTY = 1_500_000
"""Rows without cells, and cells without a value, of a sheet: reading so many takes 3 s."""
FORMULA_WITHOUT_VALUE = phrase(
    "A formula has no stored value: open the file in Excel and save it, or write the text itself."
)
UNREADABLE_CELL = phrase("A cell cannot be read: write its text again.")

SheetRow = tuple[int, list[Cell]]
_COLUMN = re.compile("[A-Za-z]{1,3}")
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


class MergedRange(NamedTuple):
    """A merged range: columns and rows from 1, both ends inclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(slots=True)
class Hidden:
    """How many rows and columns with content people do not see, and are left out."""

    rows: int = 0
    columns: set[int] = field(default_factory=set)


def unescape_ooxml(text: str) -> str:
    """Decode _xHHHH_, the escape for characters that XML cannot hold (22.9.2.19).

    Two halves of a character, as some programs escape an emoji, are put together.
    """
    if "_x" not in text:
        return text
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)), text)
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def read_shared_strings(part: IO[bytes]) -> list[str]:
    """The texts that cells refer to by index, without phonetic readings (furigana)."""
    reader = _SharedStringsHandler()
    for _ in _parse_chunks(part, reader.start, reader.end, reader.characters):
        pass
    return reader.texts


def iter_rows(
    part: IO[bytes], texts: list[str], formats: NumberFormats, hidden: Hidden
) -> Iterator[SheetRow]:
    """The rows of a sheet that are visible and not empty; counts the others in `hidden`."""
    reader = _SheetHandler(texts, formats, hidden)
    for _ in _parse_chunks(part, reader.start, reader.end, reader.characters):
        yield from reader.rows
        reader.rows.clear()


def read_merged_ranges(part: IO[bytes]) -> list[MergedRange]:
    found = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.endswith("mergeCell"):
            with suppress(ValueError):  # no range
                bounds = range_boundaries(attributes.get("ref", ""))
                found.append(MergedRange(*(int(n or 1) for n in bounds)))

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

    def __init__(self, texts: list[str], formats: NumberFormats, hidden: Hidden) -> None:
        super().__init__()
        self.rows: list[SheetRow] = []
        self._texts = texts
        self._formats = formats
        self._hidden = hidden
        self._hidden_columns: list[range] = []
        self._row_number = self._column = 0
        self._row_hidden = False
        self._empty = 0
        self._cells: list[Cell] = []
        self._attributes: dict[str, str] = {}
        self._has_formula = self._has_value = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        # Comparisons in the order of frequency: a sheet may have millions of empty elements.
        tag = name.rpartition(" ")[2]
        if tag == "c":
            self._attributes = attributes
            self._pieces.clear()
            self._has_formula = self._has_value = False
        elif tag == "row":
            self._row_number = whole_number(attributes.get("r")) or self._row_number + 1
            self._row_hidden = bool(attributes) and is_hidden(attributes, "ht")
            self._column = 0
            self._cells = []
        elif tag == "f":
            self._has_formula = True
        elif tag == "col" and is_hidden(attributes, "width"):
            first = whole_number(attributes.get("min"))
            self._hidden_columns.append(range(first, whole_number(attributes.get("max")) + 1))
        else:
            super().start(name, attributes)
            self._has_value = self._has_value or self._in_text

    def end(self, name: str) -> None:
        tag = name.rpartition(" ")[2]
        if tag == "c":
            if self._pieces or self._has_formula:
                self._store_cell()
            else:
                self._count_empty()
                self._column = _column(self._attributes.get("r")) or self._column + 1
        elif tag == "row":
            if self._cells and self._row_hidden:
                self._hidden.rows += 1
            elif self._cells:
                self.rows.append((self._row_number, self._cells))
            else:
                self._count_empty()
        else:
            super().end(name)

    def _count_empty(self) -> None:
        self._empty += 1
        if self._empty > MAX_EMPTY:
            raise ImportRefused(
                phrase(
                    "A sheet has over {limit:,} empty cells and rows: delete those below and to "
                    "the right of the texts.",
                    limit=MAX_EMPTY,
                )
            )

    def _store_cell(self) -> None:
        self._column = _column(self._attributes.get("r")) or self._column + 1
        if self._column > MAX_COLUMNS or not (value := self._value("".join(self._pieces))):
            return
        if any(self._column in columns for columns in self._hidden_columns):
            self._hidden.columns.add(self._column)
            return
        if isinstance(value, str) and has_lone_surrogates(value):
            value = CellError(UNREADABLE_CELL)
        self._cells += [""] * (self._column - len(self._cells))
        self._cells[self._column - 1] = value

    def _value(self, raw: str) -> Cell:
        kind = self._attributes.get("t", "n")
        if not raw:
            is_empty_string = self._has_value and kind == "str"
            without_value = self._has_formula and not is_empty_string
            return CellError(FORMULA_WITHOUT_VALUE) if without_value else ""
        match kind:
            case "n" | "s":
                try:
                    if kind == "s":
                        return self._texts[_index(raw)]
                    return self._formats.text(raw, self._attributes.get("s", ""))
                except (ValueError, IndexError):
                    return CellError(UNREADABLE_CELL)
            case "inlineStr" | "str":
                return unescape_ooxml(raw)
            case "b":
                return "TRUE" if raw in ("1", "true") else "FALSE"
            case "e":
                return CellError(phrase("A cell holds the error {raw}.", raw=raw[:20]))
        return raw  # a date in ISO 8601


def is_hidden(attributes: dict[str, str], size: str) -> bool:
    """Whether a row or column is hidden, or of no height or width."""
    return attributes.get("hidden") in ("1", "true") or attributes.get(size) in ("0", "0.0")


def _index(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _column(reference: str | None) -> int:
    """The column of a reference such as B7, or 0."""
    letters = reference.rstrip("0123456789") if reference else ""
    return column_index_from_string(letters) if _COLUMN.fullmatch(letters) else 0

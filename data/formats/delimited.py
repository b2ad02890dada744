"""CSV, with commas, tabs or semicolons: sniffs the delimiter and reports unclosed quotes.

A text that a spreadsheet would run as a formula is written with an apostrophe before it (OWASP,
"CSV Injection"), which reading removes: at the beginning of a cell, and also after a semicolon, tab
or line break within it, where a cell begins for a spreadsheet that doesn't split at commas.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

from core.errors import ImportRefused
from core.records import Pair
from data.formats.chat_exports import export_error, lines_export
from data.formats.columns import (
    HEADER_SEARCH_ROWS,
    MAX_COLUMNS,
    Layout,
    default_layout,
    layout_from_header,
)
from data.formats.encodings import SNIFFED_BYTES, read_text
from data.formats.import_result import ImportBuilder
from data.formats.registry import Problems
from data.formats.table import problem_column, read_table, sample_rows, table_rows
from i18n.phrase import phrase

DELIMITERS = "\t;,"
"""In order of preference between equal fits: most sentences contain commas."""
UNCLOSED_QUOTE = phrase(
    "A quotation mark opens in this row and is not closed, so nothing from here on could be read."
)
_CELL_BEGINS = r"""(^|[;\t\n\r])([ "]*)"""
_UNESCAPED = re.compile(_CELL_BEGINS + r"(?='*[=+\-@\t\r＝＋－＠])")
_ESCAPED = re.compile(_CELL_BEGINS + r"'(?='*[=+\-@\t\r＝＋－＠])")


def read(path: Path, name: str, into: ImportBuilder) -> None:
    text = read_text(path, name)
    delimiter = sniff_delimiter(text)

    def complete_rows() -> Iterator[tuple[int, Sequence[str]]]:
        for number, cells in parse_rows(text, delimiter):
            if cells is None:
                into.add_error(number, UNCLOSED_QUOTE)
            else:
                yield number, cells

    read_table(complete_rows(), _layout(text, delimiter, name), into)


def encode(pairs: Sequence[Pair]) -> bytes:
    file = io.StringIO(newline="")
    rows = csv.writer(file)
    for row in table_rows(pairs):
        rows.writerow([_escape(str(cell)) for cell in row])
    return file.getvalue().encode("utf-8-sig")


def annotate(path: Path, name: str, problems: Problems) -> bytes:
    text = read_text(path, name)
    delimiter = sniff_delimiter(text)
    cells = problem_column(problems.get("", {}), _layout(text, delimiter, name))
    # the column of the problems; beyond MAX_COLUMNS nothing is read, wherever it stands
    width = min(max(map(len, raw_rows(text, delimiter)), default=0), MAX_COLUMNS)
    file = io.StringIO(newline="")
    file.write("\ufeff")  # without a BOM, Excel does not read it as UTF-8
    writer = csv.writer(file, delimiter=delimiter)
    for number, row in enumerate(raw_rows(text, delimiter), 1):
        if number in cells:
            row += [""] * (width - len(row)) + [_escape(cells[number])]
        writer.writerow(row)
    return file.getvalue().encode("utf-8", "surrogateescape")


def _escape(cell: str) -> str:
    return _UNESCAPED.sub(r"\1\2'", cell)


def _unescape(cell: str) -> str:
    return _ESCAPED.sub(r"\1\2", cell) if "'" in cell else cell


def _layout(text: str, delimiter: str, name: str) -> Layout:
    sample = sample_rows((n, cells or []) for n, cells in parse_rows(text, delimiter))
    if layout := layout_from_header(sample, name):
        return layout
    if program := lines_export(text[:SNIFFED_BYTES]):
        raise ImportRefused(export_error(name, program))
    return default_layout(sample)


def sniff_delimiter(text: str) -> str:
    """The delimiter that yields headings, or else the most rows of two or more cells."""

    def fit(delimiter: str) -> tuple[bool, int]:
        rows = (row[:MAX_COLUMNS] for row in islice(raw_rows(text, delimiter), 50))
        filled = [(n, row) for n, row in enumerate(rows, 1) if any(map(str.strip, row))]
        try:
            headed = layout_from_header(filled[:HEADER_SEARCH_ROWS], "") is not None
        except ImportRefused:  # incomplete headings, which may be due to the wrong delimiter
            headed = False
        return headed, sum(len(row) > 1 for _, row in filled)

    return max(DELIMITERS, key=fit)


def parse_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Row numbers, as a spreadsheet counts them, and cells; None for cells, and the end, at an
    unclosed quotation mark, which the csv module would let swallow the rest of the file."""
    lines = _CountedLines(text)
    reader = csv.reader(lines, delimiter=delimiter)
    for number in count(1):
        lines.quotes = lines.count = 0
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = None
        if row is None or (lines.ended and lines.count > 1 and lines.quotes % 2):
            yield number, None
            return
        yield number, [_unescape(cell) for cell in row[:MAX_COLUMNS]]


def raw_rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """The rows with their cells unchanged, up to the first that cannot be parsed."""
    with suppress(csv.Error):
        yield from csv.reader(io.StringIO(text, ""), delimiter=delimiter)


class _CountedLines:
    """The lines of a text, with counts of the lines and quotation marks of the current record."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, "")
        self.count = self.quotes = 0
        self.ended = False

    def __iter__(self) -> _CountedLines:
        return self

    def __next__(self) -> str:
        line = self._lines.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.count += 1
        self.quotes += line.count('"')
        return line

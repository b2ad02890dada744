"""CSV as rows of cells: which delimiter it has, quotes that never close, guarded cells.

A cell that a spreadsheet would take for a formula is written with an apostrophe before it
(OWASP, "CSV Injection"), which is taken off again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice

from data.formats.columns import HEADER_SEARCH_ROWS, layout_from_header
from i18n.phrase import phrase

DELIMITERS = "\t;,"
"""Of those that fit as well, the first: commas are in most sentences."""
UNCLOSED_QUOTE = phrase(
    "A quotation mark opens in this row and is not closed, so nothing from here on could be read."
)
_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r＝＋－＠]")


def escape_formula(cell: str) -> str:
    return "'" + cell if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    return cell[1:] if _GUARDED.match(cell) else cell


def sniff_delimiter(text: str) -> str:
    """The delimiter with which there are headings, or else the most rows with two cells."""

    def fit(delimiter: str) -> tuple[bool, int]:
        rows = islice(raw_rows(text, delimiter), 50)
        filled = [(n, row) for n, row in enumerate(rows, 1) if any(map(str.strip, row))]
        headed = layout_from_header(filled[:HEADER_SEARCH_ROWS]) is not None
        return headed, sum(len(row) > 1 for _, row in filled)

    return max(DELIMITERS, key=fit)


def parse_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Numbers, as a spreadsheet counts, and cells; None for the cells where a quotation mark is
    not closed, which ends the rows."""
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=delimiter)
    number = 0
    while True:
        number += 1
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
        yield number, [unescape_formula(cell) for cell in row]


def raw_rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """The rows with their cells as they are, as far as they can be read."""
    try:
        yield from csv.reader(io.StringIO(text, ""), delimiter=delimiter)
    except csv.Error:
        return


class _Lines:
    """The lines of a text, and of the record that is being read: how many, how many quotes."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, "")
        self.count = self.quotes = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._lines.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.count += 1
        self.quotes += line.count('"')
        return line

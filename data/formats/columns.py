"""Finds out what each column of a table holds: its row of headings, or a guess. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import ImportRefused
from data.formats.chat_exports import export_error, headings_export
from data.formats.headings import (
    MAX_HEADING_CHARS,
    REPEATED_FIELDS,
    UTTERANCE_FIELDS,
    Field,
    name_of,
    surest_fields,
)
from i18n.phrase import phrase

HEADER_SEARCH_ROWS = 10
"""How many rows are searched for headings, not counting blank ones."""


PROBLEM_PREFIX = f"{Field.PROBLEM}: "
"""How the first cell of the problem column begins in a table without headings."""
MAX_COLUMNS = 256
"""Cells to the right of this column are ignored."""
MIN_HEADING_CHARS = 2
"""A shorter cell, such as “A”, is as likely an answer as a heading."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The field of each column, None for one that is not read.

    `header_row` is the number of the row of headings (0: there is none, so the fields are a guess),
    `first_row` the one of the row where a new column's heading goes. `unread` are the rows above
    the headings that have more than one cell.
    """

    fields: tuple[Field | None, ...]
    header_row: int
    first_row: int
    unread: tuple[int, ...] = ()

    def field_at(self, column: int) -> Field | None:
        """The field of a column; cells beyond the last one continue it if it is an utterance."""
        if column < len(self.fields):
            return self.fields[column]
        return self.fields[-1] if self.fields[-1] in UTTERANCE_FIELDS else None


SampleRows = Sequence[tuple[int, Sequence[str]]]
"""Row numbers and cells of the first rows that are not blank."""


def layout_from_header(sample: SampleRows, name: str) -> Layout | None:
    """The layout from the row of headings in the sample; None if there is none.

    Titles may precede it. A column without a heading continues the utterance to its left.

    Raises:
        ImportRefused: the headings name only one of the two speakers, or are those of a chat
            program's export; `name` is the file's name.
    """
    first = next((n for n, cells in sample if _filled(cells) > 1), 0)  # a title has one cell
    for number, cells in sample:
        # below the first row that may be one, “q2” and “A” are texts
        names = cells if number <= first else [cell if _is_long(cell) else "" for cell in cells]
        fields = surest_fields(names)
        if Field.USER in fields and Field.BOT in fields:
            above = [n for n, row in sample if n < number and _filled(row) > 1]
            return Layout(tuple(_fill_unheaded(cells, fields)), number, number, tuple(above))
    for _, cells in sample:
        if program := headings_export(cell for cell in cells if len(cell) <= MAX_HEADING_CHARS):
            raise ImportRefused(export_error(name, program))
    named = {
        one.field
        for number, cells in sample
        for cell in cells
        if number == first and _is_long(cell) and (one := name_of(cell))
    }
    if len(named) > 1 or named.intersection(UTTERANCE_FIELDS):
        raise ImportRefused(
            phrase(
                "The headings name only some of the columns: write “user” above what people "
                "say, and “bot” above what the bot answers."
            )
        )
    return None


def _is_long(cell: str) -> bool:
    """Whether it may be a heading for sure."""
    return len(cell.strip().rstrip("0123456789")) >= MIN_HEADING_CHARS


def _filled(cells: Sequence[str]) -> int:
    return sum(map(bool, map(str.strip, cells)))


def _fill_unheaded(cells: Sequence[str], named: Sequence[Field | None]) -> list[Field | None]:
    spread: list[Field | None] = []
    for cell, field in zip(cells, named, strict=True):
        if cell.strip():
            first = field in REPEATED_FIELDS or field not in spread
            spread.append((field or Field.OTHER) if first else Field.OTHER)
        else:
            before = spread[-1] if spread else None
            spread.append(before if before in UTTERANCE_FIELDS else None)
    return spread


def default_layout(sample: SampleRows) -> Layout:
    """Without headings: the first non-empty column is the user's, all others the bot's."""
    filled = (n for _, cells in sample for n, cell in enumerate(cells) if cell.strip())
    first = min(filled, default=0)
    fields: list[Field | None] = [None] * first + [Field.USER, Field.BOT]
    for column, cell in enumerate(sample[0][1] if sample else ()):
        marked = cell == Field.PROBLEM or cell.startswith(PROBLEM_PREFIX)
        if column > first + 1 and marked:
            fields += [Field.BOT] * (column - len(fields)) + [Field.PROBLEM]
            break
    return Layout(tuple(fields), 0, sample[0][0] if sample else 1)

"""Rows of a table to pairs, and back: which cells, lines and rows make up one utterance. Pure.

A row is a pair: the text in the user's columns and the text in the bot's; several cells or lines
are joined. A row with only one speaker's text, directly below a pair (no blank row between),
continues that speaker's text. But rows with only the user's text, followed by rows with only the
bot's, are a pair of their own. A row that names another conversation or turn than the row above
continues nothing.

Knows neither workbooks nor CSV.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from core.records import Pair
from data.formats.columns import HEADER_SEARCH_ROWS, PROBLEM_PREFIX, Field, Layout
from data.formats.import_result import ImportBuilder
from data.formats.texts import has_line_breaks, join_pieces, split_lines
from i18n.phrase import phrase

MISSING_BOT_TEXT = phrase("The bot's text is missing.")
MISSING_USER_TEXT = phrase("The user's text is missing.")
KEEP_LINES_MARK = "keep"
"""In the column `lines`: this row's line breaks are part of its texts."""


@dataclass(frozen=True, slots=True)
class CellError:
    """A cell whose text cannot be read; `reason` is a sentence."""

    reason: str


Cell = str | CellError


@dataclass(slots=True)
class _Row:
    """A row's cells by their columns; `turn` is 0 if none is given."""

    number: int
    user: list[str] = field(default_factory=list)
    bot: list[str] = field(default_factory=list)
    conversation: str = ""
    turn: int = 0
    source: str = ""
    error: str | None = None

    def continues(self, above: _Row) -> bool:
        """Whether its text may belong to the row above it."""
        same = self.conversation in ("", above.conversation)
        return same and self.turn in (0, above.turn)


def sample_rows(rows: Iterable[tuple[int, Sequence[Cell]]]) -> list[tuple[int, list[str]]]:
    """The first rows that are not blank: the headings are looked for among them."""
    texts = (
        (n, ["?" if isinstance(one, CellError) else one for one in cells]) for n, cells in rows
    )
    return list(
        islice(((n, cells) for n, cells in texts if any(map(str.strip, cells))), HEADER_SEARCH_ROWS)
    )


def table_rows(pairs: Sequence[Pair]) -> Iterator[Sequence[str | int]]:
    """The pairs as a table: headings, then a row for each; `lines` only where a text needs it."""
    columns = (Field.USER, Field.BOT, Field.CONVERSATION, Field.TURN, Field.SOURCE)
    with_lines = any(_has_lines(pair) for pair in pairs)
    yield (*columns, Field.LINES) if with_lines else columns
    for pair in pairs:
        row = (pair.user, pair.bot, pair.conversation, pair.turn or "", pair.source)
        yield (*row, KEEP_LINES_MARK if _has_lines(pair) else "") if with_lines else row


def _has_lines(pair: Pair) -> bool:
    return has_line_breaks(pair.user) or has_line_breaks(pair.bot)


def problem_column(reasons: Mapping[int, str], layout: Layout) -> dict[int, str]:
    """The cells of an annotated copy's new column, by row.

    Without a row of headings, the first cell starts with the heading: reading knows the column by
    it and ignores it.
    """
    reason = reasons.get(layout.first_row)
    return {**reasons, layout.first_row: PROBLEM_PREFIX + reason if reason else str(Field.PROBLEM)}


def read_table(
    rows: Iterable[tuple[int, Sequence[Cell]]], layout: Layout, into: ImportBuilder
) -> None:
    """Add the pairs of the rows below the headings; blank rows may be missing from `rows`."""
    assembler = _PairAssembler(into)
    filled = ((n, cells) for n, cells in rows if n > layout.header_row and any(cells))
    for number, cells in into.count_rows(filled):
        row = _classify_cells(number, cells, layout)
        if row.user or row.bot or row.error:
            assembler.feed(row)
    assembler.flush()


def _classify_cells(number: int, cells: Sequence[Cell], layout: Layout) -> _Row:
    row = _Row(number)
    named: dict[Field, str] = {}
    said: list[tuple[list[str], str]] = []
    for column, cell in enumerate(cells):
        what = layout.field_at(column)
        if not cell or what in (None, Field.OTHER, Field.PROBLEM):
            continue
        if isinstance(cell, CellError):
            row.error = row.error or cell.reason
        elif what is Field.USER or what is Field.BOT:
            said.append((row.user if what is Field.USER else row.bot, cell))
        elif what is not None:
            named[what] = cell.strip()
    keep = bool(named.get(Field.LINES))
    for pieces, cell in said:
        pieces += [cell.strip()] if keep and cell.strip() else split_lines(cell)
    _set_metadata(row, named)
    return row


def _set_metadata(row: _Row, named: Mapping[Field, str]) -> None:
    """Set the row's conversation, source and turn."""
    row.conversation = named.get(Field.CONVERSATION, "")
    row.source = named.get(Field.SOURCE, "")
    turn = unicodedata.normalize("NFKC", named.get(Field.TURN, ""))
    if row.conversation and turn:
        row.turn = int(turn) if turn.isdecimal() and len(turn) < 10 else 0
        if row.turn < 1:
            row.error = row.error or phrase(
                "The turn “{turn}” is no whole number from 1.", turn=turn[:20]
            )


class _PairAssembler:
    """Builds pairs out of rows: holds the last pair, which the next rows may continue, and the rows
    after it with only the user's text, which belong to that pair or to a pair of their own."""

    def __init__(self, into: ImportBuilder) -> None:
        self._into = into
        self._pair: _Row | None = None
        self._pending: list[_Row] = []
        self._last = 0

    def feed(self, row: _Row) -> None:
        if row.number != self._last + 1:
            self.flush()
        self._last = row.number
        if row.error:
            self.flush()
            self._into.add_error(row.number, row.error)
        elif row.user and row.bot:
            self.flush()
            self._pair = row
        elif row.user:
            self._add_user_row(row)
        else:
            self._add_bot_row(row)

    def _add_user_row(self, row: _Row) -> None:
        above = self._pending[-1] if self._pending else self._pair
        if above and not row.continues(above):
            self.flush()
        self._pending.append(row)

    def _add_bot_row(self, row: _Row) -> None:
        if self._pending and row.continues(self._pending[0]):
            first, *others = self._pending
            self._pending = []
            self.flush()
            for other in others:
                first.user += other.user
            self._pair = first
        elif self._pending or not (self._pair and row.continues(self._pair)):
            self.flush()
            self._into.add_error(row.number, MISSING_USER_TEXT)
            return
        assert self._pair is not None  # both ways here have one
        self._pair.bot += row.bot

    def flush(self) -> None:
        """End the pair: no later row can continue it."""
        pair, waiting = self._pair, self._pending
        self._pair, self._pending = None, []
        for row in waiting:
            if pair:
                pair.user += row.user
        if pair:
            self._add(pair)
        else:
            for row in waiting:
                self._into.add_error(row.number, MISSING_BOT_TEXT)

    def _add(self, row: _Row) -> None:
        user, bot = join_pieces(row.user), join_pieces(row.bot)
        pair = Pair(user, bot, row.conversation, row.turn, row.source)
        if self._into.add_pair(row.number, pair):
            for pieces, text in ((row.user, user), (row.bot, bot)):
                if len(pieces) > 1:
                    self._into.add_joined(row.number, text)

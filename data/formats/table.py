"""Rows of a table to pairs: which cells, lines and rows make one utterance. Pure.

A row is a pair: what the user's columns hold, and what the bot's hold. In both, cells and lines are
joined. Directly below a pair, without a blank row between, a row with only the bot's text goes on
with what the bot says, and a row with only the user's text with what the user says. But rows with
only the user's text and below them rows with only the bot's are a pair of their own. A row that
names another conversation or turn than the one above goes on with nothing.

Knows neither workbooks nor CSV.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.records import Pair
from data.formats.columns import Field, Layout
from data.formats.import_result import ImportBuilder
from data.formats.texts import join_pieces, split_lines
from i18n.phrase import phrase

MISSING_BOT_TEXT = phrase("The bot's text is missing.")
MISSING_USER_TEXT = phrase("The user's text is missing.")


@dataclass(frozen=True, slots=True)
class CellError:
    """A cell that has no text; `reason` is a sentence."""

    reason: str


Cell = str | CellError


@dataclass(slots=True)
class _Row:
    """A row's cells by what they are; `turn` is 0 if none is given."""

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


def read_table(
    rows: Iterable[tuple[int, Sequence[Cell]]], layout: Layout, into: ImportBuilder
) -> None:
    """Gather the pairs of the rows below the headings; blank rows may be left out of `rows`."""
    machine = _PairAssembler(into)
    filled = ((n, cells) for n, cells in rows if n > layout.header_row and any(cells))
    for number, cells in into.count_rows(filled):
        row = _classify_cells(number, cells, layout)
        if row.user or row.bot or row.error:
            machine.feed(row)
    machine.flush()


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
    """What the row says beside its texts."""
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
    """Holds the pair that may still go on, and rows with only the user's text after it."""

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
        """Nothing that follows goes on from what was taken."""
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

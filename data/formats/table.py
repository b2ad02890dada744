"""Table rows to pairs and back. Pure; knows neither workbooks nor CSV.

A row is a pair of the user's and the bot's columns, whose cells and lines are joined. A row with
only one speaker's text, or other wordings, directly below a pair continues it; rows of the user's
text followed by rows of the bot's make a new pair. A row with another conversation or turn
continues nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from core.questions import split_wordings
from core.records import Pair
from data.formats.columns import HEADER_SEARCH_ROWS, PROBLEM_PREFIX, Layout
from data.formats.headings import Field
from data.formats.import_result import ImportBuilder
from data.formats.texts import has_line_breaks, join_pieces, split_lines
from i18n.phrase import phrase

MISSING_BOT_TEXT = phrase("The bot's text is missing.")
MISSING_USER_TEXT = phrase("The user's text is missing.")
KEEP_LINES_MARK = "keep"
"""In the column `lines`: keep this row's line breaks."""


@dataclass(frozen=True, slots=True)
class CellError:
    """A cell whose text cannot be read; `reason` is a sentence."""

    reason: str


Cell = str | CellError


@dataclass(slots=True)
class _Row:
    """A row's cells by column; `turn` is 0 if it has none."""

    number: int
    user: list[str] = field(default_factory=list)
    bot: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    conversation: str = ""
    turn: int = 0
    source: str = ""
    error: str | None = None

    def continues(self, above: _Row) -> bool:
        """Whether it may continue the row above it."""
        same = self.conversation in ("", above.conversation)
        return same and self.turn in (0, above.turn)


def sample_rows(rows: Iterable[tuple[int, Sequence[Cell]]]) -> list[tuple[int, list[str]]]:
    """The first rows that are not blank, in which the headings are searched."""
    texts = (
        (n, ["?" if isinstance(one, CellError) else one for one in cells]) for n, cells in rows
    )
    filled = ((n, cells) for n, cells in texts if any(map(str.strip, cells)))
    return list(islice(filled, HEADER_SEARCH_ROWS))


def table_rows(pairs: Sequence[Pair]) -> Iterator[Sequence[str | int]]:
    """The headings, then a row per pair; the column `lines` only if a text has line breaks."""
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

    Without headings, the first cell starts with PROBLEM_PREFIX, by which reading recognises and
    ignores the column.
    """
    reason = reasons.get(layout.first_row)
    return {**reasons, layout.first_row: PROBLEM_PREFIX + reason if reason else str(Field.PROBLEM)}


def read_table(
    rows: Iterable[tuple[int, Sequence[Cell]]], layout: Layout, into: ImportBuilder
) -> None:
    """Add the pairs of the rows below the headings; blank rows may be missing from `rows`."""
    rows_before = into.rows
    assembler = _PairAssembler(into)
    below = (row for row in rows if row[0] > layout.header_row and any(row[1]))
    for number, cells in into.count_rows(below):
        into.count_chars(sum(len(one) for one in cells if isinstance(one, str)))
        row = _classify_cells(number, cells, layout)
        if row.user or row.bot or row.also or row.error:
            assembler.feed(row)
    assembler.flush()
    if into.rows > rows_before:
        _note_layout(layout, into)


def _note_layout(layout: Layout, into: ImportBuilder) -> None:
    if not layout.header_row:
        into.add_guess(
            phrase(
                "There are no headings that I know, so this is a guess: the first column is what "
                "people say, and all to the right of it is the bot's answer. If that is wrong, "
                "write “user” and “bot” above the columns."
            )
        )
    for number in layout.unread:
        into.add_note(phrase("Row {row} is above the headings, so it was left out.", row=number))


def _classify_cells(number: int, cells: Sequence[Cell], layout: Layout) -> _Row:
    row = _Row(number)
    named: dict[Field, str] = {}
    utterances: list[tuple[list[str], str]] = []
    for column, cell in enumerate(cells):
        field_ = layout.field_at(column)
        if not cell or field_ in (None, Field.OTHER, Field.PROBLEM):
            continue
        if isinstance(cell, CellError):
            row.error = row.error or cell.reason
        elif field_ is Field.USER or field_ is Field.BOT:
            utterances.append((row.user if field_ is Field.USER else row.bot, cell))
        elif field_ is Field.ALSO:
            row.also += split_wordings(cell)
        elif field_ is not None:
            named[field_] = cell.strip()
    keep_lines = bool(named.get(Field.LINES))
    for pieces, cell in utterances:
        pieces += [cell.strip()] if keep_lines and cell.strip() else split_lines(cell)
    _set_metadata(row, named)
    return row


def _set_metadata(row: _Row, named: Mapping[Field, str]) -> None:
    row.conversation = named.get(Field.CONVERSATION, "")
    row.source = named.get(Field.SOURCE, "")
    turn = named.get(Field.TURN, "")
    if row.conversation and turn:
        row.turn = whole_turn(turn)
        if row.turn < 1:
            row.error = row.error or phrase(
                "The turn “{turn}” is no whole number from 1.", turn=turn[:20]
            )


def whole_turn(text: str) -> int:
    """The number of a turn, also written as 1.0; 0 if it is no whole number from 1."""
    found = re.fullmatch(r"(\d{1,9})(?:\.0+)?", unicodedata.normalize("NFKC", text))
    return int(found[1]) if found else 0


class _PairAssembler:
    """Builds pairs out of rows.

    Holds the last pair, which the next rows may continue, and the user-only rows after it: these
    continue that pair, unless bot-only rows follow and make them a new pair.
    """

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
                first.also += other.also
            self._pair = first
        elif self._pending or not (self._pair and row.continues(self._pair)):
            self.flush()
            self._into.add_error(row.number, MISSING_USER_TEXT)
            return
        assert self._pair is not None  # set above, or checked by the elif
        self._pair.bot += row.bot
        self._pair.also += row.also

    def flush(self) -> None:
        """End the pair: no later row can continue it."""
        pair, pending = self._pair, self._pending
        self._pair, self._pending = None, []
        for row in pending:
            if pair:
                pair.user += row.user
                pair.also += row.also
            else:
                self._into.add_error(row.number, MISSING_BOT_TEXT)
        if pair:
            self._add(pair)

    def _add(self, row: _Row) -> None:
        user, bot = join_pieces(row.user), join_pieces(row.bot)
        pair = Pair(user, bot, row.conversation, row.turn, row.source)
        if self._into.add_pair(row.number, pair):
            for pieces, text in ((row.user, user), (row.bot, bot)):
                if len(pieces) > 1:
                    self._into.add_joined(row.number, text)
            self._into.add_wordings(row.number, pair, row.also)

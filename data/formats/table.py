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
from data.formats.import_result import Gathering
from data.formats.texts import join, lines
from i18n.phrase import phrase

NO_ANSWER = phrase("The bot's text is missing.")
NO_QUESTION = phrase("The user's text is missing.")


@dataclass(frozen=True, slots=True)
class Flaw:
    """A cell that has no text; `reason` is a sentence."""

    reason: str


Cell = str | Flaw


@dataclass(slots=True)
class _Row:
    """A row's cells by what they are; `turn` is 0 if none is given."""

    number: int
    user: list[str] = field(default_factory=list)
    bot: list[str] = field(default_factory=list)
    conversation: str = ""
    turn: int = 0
    source: str = ""
    flaw: str | None = None

    def goes_on_from(self, above: _Row) -> bool:
        """Whether its text may belong to the row above it."""
        same = self.conversation in ("", above.conversation)
        return same and self.turn in (0, above.turn)


def read_table(rows: Iterable[tuple[int, Sequence[Cell]]], layout: Layout, into: Gathering) -> None:
    """Gather the pairs of the rows below the headings; blank rows may be left out of `rows`."""
    machine = _Machine(into)
    filled = ((n, cells) for n, cells in rows if n > layout.heading and any(cells))
    for number, cells in into.counted(filled):
        row = _sorted(number, cells, layout)
        if row.user or row.bot or row.flaw:
            machine.take(row)
    machine.close()


def _sorted(number: int, cells: Sequence[Cell], layout: Layout) -> _Row:
    row = _Row(number)
    named: dict[Field, str] = {}
    said: list[tuple[list[str], str]] = []
    for column, cell in enumerate(cells):
        what = layout.of(column)
        if not cell or what in (None, Field.OTHER, Field.PROBLEM):
            continue
        if isinstance(cell, Flaw):
            row.flaw = row.flaw or cell.reason
        elif what is Field.USER or what is Field.BOT:
            said.append((row.user if what is Field.USER else row.bot, cell))
        elif what is not None:
            named[what] = cell.strip()
    keep = bool(named.get(Field.LINES))
    for pieces, cell in said:
        pieces += [cell.strip()] if keep and cell.strip() else lines(cell)
    _name(row, named)
    return row


def _name(row: _Row, named: Mapping[Field, str]) -> None:
    """What the row says beside its texts."""
    row.conversation = named.get(Field.CONVERSATION, "")
    row.source = named.get(Field.SOURCE, "")
    turn = unicodedata.normalize("NFKC", named.get(Field.TURN, ""))
    if row.conversation and turn:
        row.turn = int(turn) if turn.isdecimal() and len(turn) < 10 else 0
        if row.turn < 1:
            row.flaw = row.flaw or phrase(
                "The turn “{turn}” is no whole number from 1.", turn=turn[:20]
            )


class _Machine:
    """Holds the pair that may still go on, and rows with only the user's text after it."""

    def __init__(self, into: Gathering) -> None:
        self._into = into
        self._pair: _Row | None = None
        self._waiting: list[_Row] = []
        self._last = 0

    def take(self, row: _Row) -> None:
        if row.number != self._last + 1:
            self.close()
        self._last = row.number
        if row.flaw:
            self.close()
            self._into.wrong(row.number, row.flaw)
        elif row.user and row.bot:
            self.close()
            self._pair = row
        elif row.user:
            self._wait(row)
        else:
            self._answer(row)

    def _wait(self, row: _Row) -> None:
        above = self._waiting[-1] if self._waiting else self._pair
        if above and not row.goes_on_from(above):
            self.close()
        self._waiting.append(row)

    def _answer(self, row: _Row) -> None:
        if self._waiting and row.goes_on_from(self._waiting[0]):
            first, *others = self._waiting
            self._waiting = []
            self.close()
            for other in others:
                first.user += other.user
            self._pair = first
        elif self._waiting or not (self._pair and row.goes_on_from(self._pair)):
            self.close()
            self._into.wrong(row.number, NO_QUESTION)
            return
        assert self._pair is not None  # both ways here have one
        self._pair.bot += row.bot

    def close(self) -> None:
        """Nothing that follows goes on from what was taken."""
        pair, waiting = self._pair, self._waiting
        self._pair, self._waiting = None, []
        for row in waiting:
            if pair:
                pair.user += row.user
        if pair:
            self._add(pair)
        else:
            for row in waiting:
                self._into.wrong(row.number, NO_ANSWER)

    def _add(self, row: _Row) -> None:
        user, bot = join(row.user), join(row.bot)
        pair = Pair(user, bot, row.conversation, row.turn, row.source)
        if self._into.add(row.number, pair):
            for pieces, text in ((row.user, user), (row.bot, bot)):
                if len(pieces) > 1:
                    self._into.note_joined(row.number, text)

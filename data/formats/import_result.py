"""The result of reading a file: its pairs, its invalid rows, and which texts were joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from core.errors import ImportRefused
from core.records import Pair
from data.formats.texts import pair_error
from i18n.phrase import phrase

MAX_ROWS = 1_000_000
PROGRESS_STEP_ROWS = 1000
"""Rows between two calls of `on_progress`."""

T = TypeVar("T")
OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row was left out.

    `row` is the number of a table's row, a line (JSON lines, YAML) or a record (JSON), from 1.
    `sheet` is "" except in a workbook.
    """

    row: int
    reason: str
    sheet: str = ""


@dataclass(frozen=True, slots=True)
class JoinedText:
    """An utterance that was joined from several cells or lines; `row` is where it begins."""

    row: int
    text: str
    sheet: str = ""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The content of a file. `rows` counts the rows or records that were not blank."""

    pairs: tuple[Pair, ...]
    errors: tuple[RowError, ...]
    joined: tuple[JoinedText, ...]
    rows: int


@dataclass(slots=True)
class ImportBuilder:
    """Collects the result while a file is read; `sheet` is the current one."""

    on_progress: OnProgress
    sheet: str = ""
    rows: int = 0
    pairs: list[Pair] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    joined: list[JoinedText] = field(default_factory=list)
    last_turns: dict[str, int] = field(default_factory=dict)

    def count_rows(self, rows: Iterable[T]) -> Iterator[T]:
        """Yield the rows and count them.

        Raises:
            ImportRefused: there are more than MAX_ROWS.
        """
        for row in rows:
            self.rows += 1
            if self.rows > MAX_ROWS:
                raise ImportRefused(
                    phrase("The file has over {limit:,} rows: split it into parts.", limit=MAX_ROWS)
                )
            if self.rows % PROGRESS_STEP_ROWS == 0:
                self.on_progress(self.rows)
            yield row

    def add_pair(self, row: int, pair: Pair) -> bool:
        """Add a valid pair, or else an error; return whether it was valid.

        In a conversation, a pair without a turn follows the last one.
        """
        if reason := pair_error(pair):
            self.add_error(row, reason)
            return False
        turn = 0
        if pair.conversation:
            turn = pair.turn or self.last_turns.get(pair.conversation, 0) + 1
            self.last_turns[pair.conversation] = turn
        self.pairs.append(replace(pair, turn=turn))
        return True

    def add_error(self, row: int, reason: str) -> None:
        self.errors.append(RowError(row, reason, self.sheet))

    def add_joined(self, row: int, text: str) -> None:
        self.joined.append(JoinedText(row, text, self.sheet))

    def build(self) -> ImportResult:
        self.on_progress(self.rows)
        return ImportResult(tuple(self.pairs), tuple(self.errors), tuple(self.joined), self.rows)


def ignore_progress(rows: int) -> None:
    pass

"""What reading a file gives: the pairs, what was wrong, and what was joined. Values only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from core.errors import ImportCancelled, ImportRefused
from core.records import Pair
from data.formats.texts import flaw
from i18n.phrase import phrase

MAX_ROWS = 1_000_000
STEP = 1000
"""Rows between two looks at `cancelled`, and two calls of `progress`."""

T = TypeVar("T")
Cancelled = Callable[[], bool]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row was left out. `row` is the number that a person sees: of the sheet's row, of the
    file's line (.jsonl, .yml) or of the record (.json). `sheet` is "" but in a workbook."""

    row: int
    reason: str
    sheet: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """An utterance that was made of several cells or lines; `row` is where it begins."""

    row: int
    text: str
    sheet: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """A file, read. `rows` counts the rows or records that were not blank."""

    pairs: tuple[Pair, ...]
    problems: tuple[Problem, ...]
    joined: tuple[Joined, ...]
    rows: int


@dataclass(slots=True)
class Gathering:
    """What is read so far; `sheet` names the sheet that is being read."""

    cancelled: Cancelled
    progress: Progress
    sheet: str = ""
    rows: int = 0
    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    joined: list[Joined] = field(default_factory=list)
    turns: dict[str, int] = field(default_factory=dict)

    def counted(self, rows: Iterable[T]) -> Iterator[T]:
        """The rows, while they are counted.

        Raises:
            ImportCancelled: it was stopped.
            ImportRefused: there are more than MAX_ROWS.
        """
        for row in rows:
            self.rows += 1
            if self.rows > MAX_ROWS:
                raise ImportRefused(
                    phrase(
                        "The file has over {limit:,} rows: split it into parts.",
                        limit=MAX_ROWS,
                    )
                )
            if self.rows % STEP == 0:
                self.progress(self.rows)
                if self.cancelled():
                    raise ImportCancelled
            yield row

    def add(self, row: int, pair: Pair) -> bool:
        """Take the pair in, or note why not; without a turn it follows its conversation's last."""
        reason = flaw(pair)
        if reason:
            self.wrong(row, reason)
            return False
        if not pair.conversation:
            pair = Pair(pair.user, pair.bot, source=pair.source)
        else:
            turn = pair.turn or self.turns.get(pair.conversation, 0) + 1
            self.turns[pair.conversation] = turn
            pair = Pair(pair.user, pair.bot, pair.conversation, turn, pair.source)
        self.pairs.append(pair)
        return True

    def wrong(self, row: int, reason: str) -> None:
        self.problems.append(Problem(row, reason, self.sheet))

    def note_joined(self, row: int, text: str) -> None:
        self.joined.append(Joined(row, text, self.sheet))

    def done(self) -> Imported:
        self.progress(self.rows)
        return Imported(tuple(self.pairs), tuple(self.problems), tuple(self.joined), self.rows)


def never() -> bool:
    return False


def ignore(rows: int) -> None:
    pass

"""The result of reading a file: its pairs, its invalid rows, and which texts were joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from core.errors import ImportRefused
from core.records import Pair
from data.formats.texts import pair_error
from i18n.phrase import phrase

MAX_ROWS = 1_000_000
MAX_ERRORS = 100_000
"""A file with more invalid rows is of another form than its reader expects."""
MAX_WORDINGS = 20
"""Other wordings of one question: each gets a copy of the answer."""
PROGRESS_STEP_ROWS = 1000
"""Rows between two calls of `on_progress`."""

SUMMARY_ITEMS = 5
"""How many pairs, errors and so on an `ImportSummary` holds."""
SUMMARY_TEXT_CHARS = 500
"""Characters of a joined text in an `ImportSummary`."""

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
    """The content of a file. `rows` counts the rows or records that were not blank.

    `guesses` and `notes` are sentences: how a table without headings was understood, and what else
    was left out on purpose.
    """

    pairs: tuple[Pair, ...]
    errors: tuple[RowError, ...]
    joined: tuple[JoinedText, ...]
    rows: int
    guesses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summarize(self) -> ImportSummary:
        """Its counts, and the first of everything."""
        return ImportSummary(
            rows=self.rows,
            pairs=len(self.pairs),
            errors=len(self.errors),
            joined=len(self.joined),
            first_pairs=self.pairs[:SUMMARY_ITEMS],
            first_errors=self.errors[:SUMMARY_ITEMS],
            first_joined=tuple(
                replace(one, text=one.text[:SUMMARY_TEXT_CHARS])
                for one in self.joined[:SUMMARY_ITEMS]
            ),
            guesses=self.guesses[:SUMMARY_ITEMS],
            notes=self.notes[:SUMMARY_ITEMS],
        )


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What a person is shown of a file before it is imported, however large it is."""

    rows: int
    pairs: int
    errors: int
    joined: int
    first_pairs: tuple[Pair, ...]
    first_errors: tuple[RowError, ...]
    first_joined: tuple[JoinedText, ...]
    guesses: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class ImportBuilder:
    """Collects the result while a file is read; `sheet` is the current one.

    `max_chars` limits the characters of all its cells or records together, which a workbook can
    make far more than the file has bytes: its cells may share one text.
    """

    on_progress: OnProgress
    max_chars: int | None = None
    sheet: str = ""
    rows: int = 0
    chars: int = 0
    pairs: list[Pair] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    joined: list[JoinedText] = field(default_factory=list)
    guesses: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
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

    def count_chars(self, chars: int) -> None:
        """Count what was read.

        Raises:
            ImportRefused: it is more than `max_chars` by now.
        """
        self.chars += chars
        if self.max_chars is not None and self.chars > self.max_chars:
            raise ImportRefused(
                phrase(
                    "The file holds over {limit:,} characters of text: split it into parts.",
                    limit=self.max_chars,
                )
            )

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
        self.pairs.append(pair if turn == pair.turn else replace(pair, turn=turn))
        return True

    def add_wordings(self, row: int, pair: Pair, wordings: Sequence[str]) -> None:
        """Add the answer of a valid pair to other wordings of its question, as pairs that stand
        alone."""
        others = dict.fromkeys(one for one in wordings if one != pair.user)
        if len(others) > MAX_WORDINGS:
            self.add_error(
                row,
                phrase("There are over {limit} other ways to ask.", limit=MAX_WORDINGS),
            )
            return
        for wording in others:
            self.add_pair(row, Pair(wording, pair.bot, source=pair.source))

    def add_error(self, row: int, reason: str) -> None:
        """Add an invalid row.

        Raises:
            ImportRefused: there are more than MAX_ERRORS.
        """
        if len(self.errors) >= MAX_ERRORS:
            raise ImportRefused(
                phrase(
                    "Over {limit:,} rows are wrong, the first of them row {row}: {reason}",
                    limit=MAX_ERRORS,
                    row=self.errors[0].row,
                    reason=self.errors[0].reason,
                )
            )
        self.errors.append(RowError(row, reason, self.sheet))

    def add_joined(self, row: int, text: str) -> None:
        self.joined.append(JoinedText(row, text, self.sheet))

    def add_guess(self, sentence: str) -> None:
        """Say how a table without headings was understood."""
        self.guesses[sentence] = None

    def add_note(self, sentence: str) -> None:
        """Say what was left out though it is not wrong."""
        self.notes[sentence] = None

    def build(self) -> ImportResult:
        self.on_progress(self.rows)
        return ImportResult(
            tuple(self.pairs),
            tuple(self.errors),
            tuple(self.joined),
            self.rows,
            tuple(self.guesses),
            tuple(self.notes),
        )


def ignore_progress(rows: int) -> None:
    pass

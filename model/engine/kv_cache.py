"""Who sits in which row of a runner, and what was read before and need not be read again.

Knows sequences and rows. Does not know tensors, queues or sampling.

The rows in use are the first ones, without a gap: those that decode, then at most one that is
still reading its prompt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

from model.engine.sequence import Sequence
from model.runners.base import Logits, Runner

log = logging.getLogger(__name__)

STEADY = 32
"""Tokens from which on the time of a step says how long each of them takes."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The cache of a row after `ids`, as the runner saved it."""

    ids: list[int]
    saved: Any
    memory: int


class KeptCaches:
    """What channels had read, within a budget of bytes; the least recently used goes first.

    Of each channel two are kept: after its last reply (for a reply drawn again), and after what is
    already known of its next prompt.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int, bool], Kept] = {}
        self.memory = 0

    def put(self, sequence: Sequence, kept: Kept) -> None:
        """Keep what a sequence has read, instead of the last such of its channel."""
        key = (sequence.model, sequence.channel, sequence.idle)
        self._drop(key)
        self._kept[key] = kept
        self.memory += kept.memory

    def find(self, sequence: Sequence) -> tuple[Any, int]:
        """The cache that has most of a sequence's prompt, and how many tokens of it.

        At least one token is always left to read: the scores after it are wanted.
        """
        best, length = None, 0
        for idle in (False, True):
            key = (sequence.model, sequence.channel, idle)
            if (kept := self._kept.get(key)) is None:
                continue
            self._kept[key] = self._kept.pop(key)
            shared = min(_shared(kept.ids, sequence.prompt_ids), len(sequence.prompt_ids) - 1)
            if shared > length:
                best, length = kept.saved, shared
        return best, length

    def trim(self, memory: int) -> None:
        """Let go of as many as it takes to need at most so much memory."""
        while self._kept and self.memory > memory:
            self._drop(next(iter(self._kept)))

    def forget(self, model: int) -> None:
        """A model is gone."""
        for key in [key for key in self._kept if key[0] == model]:
            self._drop(key)

    def _drop(self, key: tuple[int, int, bool]) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self.memory -= old.memory


class Batch:
    """The sequences of one runner."""

    def __init__(self, runner: Runner, kept: KeptCaches) -> None:
        self._runner = runner
        self._kept = kept
        self._rows: list[Sequence] = []
        self._used: dict[int, int] = {}
        self.pace = 0.0
        """Seconds that a token of a prompt took lately."""

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._rows

    @property
    def spare(self) -> int:
        """Memory that rows hold beyond what those who sit in them may come to need."""
        size, held = self._runner.token_bytes, 0
        for row, used in self._used.items():
            need = self._rows[row].memory if row < len(self._rows) else 0
            held += max(0, used * size - need)
        return held

    def release(self) -> None:
        """Give the memory of free rows back."""
        for row in [row for row in self._used if row >= len(self._rows)]:
            self._release(row)

    def join(self, sequence: Sequence) -> None:
        """Give a sequence the next row, with as much of its prompt as was kept."""
        row = len(self._rows)
        self._rows.append(sequence)
        if self._used.get(row, 0) * self._runner.token_bytes > sequence.memory:
            self._release(row)
        saved, sequence.past = self._kept.find(sequence) if sequence.channel else (None, 0)
        if sequence.past:
            self._runner.restore(row, saved, sequence.past)
            self._note(row, sequence.past)

    def read(self, sequence: Sequence, count: int) -> Logits | None:
        """Read the next tokens of its prompt; (V,) when that was the last of it."""
        row = self._rows.index(sequence)
        ids = sequence.prompt_ids[sequence.past : sequence.past + count]
        began = time.perf_counter()
        logits = self._runner.read(row, ids, sequence.past)
        if len(ids) >= STEADY:
            self.pace = (time.perf_counter() - began) / len(ids)
        sequence.past += len(ids)
        self._note(row, sequence.past)
        return None if sequence.unread else logits

    def decode(self, sequences: Many[Sequence]) -> tuple[list[Sequence], Logits]:
        """One more token for each that has read its prompt; they, in the order of (B, V)."""
        rows = self._rows[: len(sequences)]
        assert set(rows) == set(sequences)
        ids = [one.reply_ids[-1] for one in rows]
        logits = self._runner.decode(ids, [one.past for one in rows])
        for row, one in enumerate(rows):
            one.past += 1
            self._note(row, one.past)
        return rows, logits

    def leave(self, sequence: Sequence, *, keep: bool) -> None:
        """Free the row of a sequence, if it has one; its channel may want what is in it."""
        if sequence not in self._rows:
            return
        row = self._rows.index(sequence)
        if keep and sequence.channel and sequence.past:
            self._keep(row, sequence)
        last = len(self._rows) - 1
        behind_reader = row < last and self._rows[last].unread > 0
        for gap, other in ((row, last - 1), (last - 1, last)) if behind_reader else ((row, last),):
            if gap < other:
                self._move(other, gap)
        self._rows.pop()
        sequence.past = 0

    def _keep(self, row: int, sequence: Sequence) -> None:
        try:
            saved = self._runner.save(row, sequence.past)
        except (MemoryError, RuntimeError):  # it would have saved work, no more
            log.warning("no memory to keep what a channel has read")
            return
        memory = sequence.past * self._runner.token_bytes
        self._kept.put(sequence, Kept(sequence.seen, saved, memory))

    def _move(self, row: int, to: int) -> None:
        self._rows[to] = self._rows[row]
        self._runner.move(row, to, self._rows[to].past)
        self._note(to, self._rows[to].past)

    def _release(self, row: int) -> None:
        self._runner.release(row)
        del self._used[row]

    def _note(self, row: int, length: int) -> None:
        self._used[row] = max(length, self._used.get(row, 0))


def _shared(a: list[int], b: list[int]) -> int:
    """How many tokens two lists begin with in common."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count

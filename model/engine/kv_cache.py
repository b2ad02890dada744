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

MIN_TIMED_TOKENS = 32
"""Tokens from which on the time of a step says how long each of them takes."""


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """The cache of a row after `ids`, as the runner saved it."""

    ids: list[int]
    kv: Any
    nbytes: int


class PrefixCache:
    """What channels had read, within a budget of bytes; the least recently used goes first.

    Of each channel two are kept: after its last reply (for a reply drawn again), and after what is
    already known of its next prompt.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[int, int, bool], CachedPrefix] = {}
        self.nbytes = 0

    def put(self, sequence: Sequence, kept: CachedPrefix) -> None:
        """Keep what a sequence has read, instead of the last such of its channel."""
        key = (sequence.model, sequence.channel, sequence.prefetch_only)
        self._drop(key)
        self._entries[key] = kept
        self.nbytes += kept.nbytes

    def longest_match(self, sequence: Sequence) -> tuple[Any, int]:
        """The cache that has most of a sequence's prompt, and how many tokens of it.

        At least one token is always left to read: the scores after it are wanted.
        """
        best, length = None, 0
        for idle in (False, True):
            key = (sequence.model, sequence.channel, idle)
            if (kept := self._entries.get(key)) is None:
                continue
            self._entries[key] = self._entries.pop(key)
            shared = min(
                _common_prefix_length(kept.ids, sequence.prompt_ids), len(sequence.prompt_ids) - 1
            )
            if shared > length:
                best, length = kept.kv, shared
        return best, length

    def evict_to(self, memory: int) -> None:
        """Let go of as many as it takes to need at most so much memory."""
        while self._entries and self.nbytes > memory:
            self._drop(next(iter(self._entries)))

    def drop_model(self, model: int) -> None:
        """A model is gone."""
        for key in [key for key in self._entries if key[0] == model]:
            self._drop(key)

    def _drop(self, key: tuple[int, int, bool]) -> None:
        if (old := self._entries.pop(key, None)) is not None:
            self.nbytes -= old.nbytes


class KVCacheRows:
    """The sequences of one runner."""

    def __init__(self, runner: Runner, kept: PrefixCache) -> None:
        self._runner = runner
        self._prefix_cache = kept
        self._rows: list[Sequence] = []
        self._filled_lengths: dict[int, int] = {}
        self.prefill_s_per_token = 0.0
        """Seconds that a token of a prompt took lately."""

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._rows

    @property
    def excess_bytes(self) -> int:
        """Memory that rows hold beyond what those who sit in them may come to need."""
        size, held = self._runner.kv_bytes_per_token, 0
        for row, used in self._filled_lengths.items():
            need = self._rows[row].max_cache_bytes if row < len(self._rows) else 0
            held += max(0, used * size - need)
        return held

    def release_free_rows(self) -> None:
        """Give the memory of free rows back."""
        for row in [row for row in self._filled_lengths if row >= len(self._rows)]:
            self._release_row(row)

    def allocate(self, sequence: Sequence) -> None:
        """Give a sequence the next row, with as much of its prompt as was kept."""
        row = len(self._rows)
        self._rows.append(sequence)
        if (
            self._filled_lengths.get(row, 0) * self._runner.kv_bytes_per_token
            > sequence.max_cache_bytes
        ):
            self._release_row(row)
        saved, sequence.num_cached_tokens = (
            self._prefix_cache.longest_match(sequence) if sequence.channel else (None, 0)
        )
        if sequence.num_cached_tokens:
            self._runner.restore(row, saved, sequence.num_cached_tokens)
            self._record_length(row, sequence.num_cached_tokens)

    def prefill(self, sequence: Sequence, count: int) -> Logits | None:
        """Read the next tokens of its prompt; (V,) when that was the last of it."""
        row = self._rows.index(sequence)
        ids = sequence.prompt_ids[sequence.num_cached_tokens : sequence.num_cached_tokens + count]
        began = time.perf_counter()
        logits = self._runner.prefill(row, ids, sequence.num_cached_tokens)
        if len(ids) >= MIN_TIMED_TOKENS:
            self.prefill_s_per_token = (time.perf_counter() - began) / len(ids)
        sequence.num_cached_tokens += len(ids)
        self._record_length(row, sequence.num_cached_tokens)
        return None if sequence.unprefilled else logits

    def decode(self, sequences: Many[Sequence]) -> tuple[list[Sequence], Logits]:
        """One more token for each that has read its prompt; they, in the order of (B, V)."""
        rows = self._rows[: len(sequences)]
        assert set(rows) == set(sequences)
        ids = [one.reply_ids[-1] for one in rows]
        logits = self._runner.decode(ids, [one.num_cached_tokens for one in rows])
        for row, one in enumerate(rows):
            one.num_cached_tokens += 1
            self._record_length(row, one.num_cached_tokens)
        return rows, logits

    def free(self, sequence: Sequence, *, keep: bool) -> None:
        """Free the row of a sequence, if it has one; its channel may want what is in it."""
        if sequence not in self._rows:
            return
        row = self._rows.index(sequence)
        if keep and sequence.channel and sequence.num_cached_tokens:
            self._save_prefix(row, sequence)
        last = len(self._rows) - 1
        behind_reader = row < last and self._rows[last].unprefilled > 0
        for gap, other in ((row, last - 1), (last - 1, last)) if behind_reader else ((row, last),):
            if gap < other:
                self._copy_row(other, gap)
        self._rows.pop()
        sequence.num_cached_tokens = 0

    def _save_prefix(self, row: int, sequence: Sequence) -> None:
        try:
            saved = self._runner.save(row, sequence.num_cached_tokens)
        except (MemoryError, RuntimeError):  # it would have saved work, no more
            log.warning("no memory to keep what a channel has read")
            return
        memory = sequence.num_cached_tokens * self._runner.kv_bytes_per_token
        self._prefix_cache.put(sequence, CachedPrefix(sequence.cached_ids, saved, memory))

    def _copy_row(self, row: int, to: int) -> None:
        self._rows[to] = self._rows[row]
        self._runner.copy_row(row, to, self._rows[to].num_cached_tokens)
        self._record_length(to, self._rows[to].num_cached_tokens)

    def _release_row(self, row: int) -> None:
        self._runner.release(row)
        del self._filled_lengths[row]

    def _record_length(self, row: int, length: int) -> None:
        self._filled_lengths[row] = max(length, self._filled_lengths.get(row, 0))


def _common_prefix_length(a: list[int], b: list[int]) -> int:
    """How many tokens two lists begin with in common."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count

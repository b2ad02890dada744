"""The KV cache: which sequence has which row of a runner, and the cached prefixes of channels.

Knows sequences and rows. Does not know tensors, queues or sampling. A row has the adapter of its
sequence; prefixes are kept by model, since those of one adapter are of no use to another.

The rows in use are the first ones, without a gap, because a decode step runs rows 0 to B-1 as one
batch: first those that decode, then those whose prompts are still being prefilled.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from model.engine.sequence import Sequence
from model.runners.base import Chunk, Logits, Runner

log = logging.getLogger(__name__)

MIN_PIECE = 2
"""Tokens of a piece of a prompt, unless it has no more: one alone is computed a little differently,
and a reply must not depend on how its prompt was cut (`model.runners.base`)."""
PACK_TOKENS = 64
"""Tokens of prompts that are prefilled together. More would gain little, and the first words of all
of them come when the last is done."""
MIN_TIMED_TOKENS = 32
"""Tokens of a chunk from which on its time is a measure of the prefill speed."""


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """The keys and values of the tokens `ids`, as the runner saved them."""

    ids: list[int]
    kv: Any
    nbytes: int


class PrefixCache:
    """Saved prefixes of the channels' conversations; the least recently used is evicted first.

    Two per channel: one after its last reply, which a regenerated reply or the next message
    continues, and one of the prefetched next prompt, whose window of messages has moved on.
    """

    def __init__(self) -> None:
        self._entries: LRUCache[tuple[int, int, bool], CachedPrefix] = LRUCache(
            math.inf, getsizeof=lambda prefix: prefix.nbytes
        )

    @property
    def nbytes(self) -> int:
        """Memory of all prefixes."""
        return int(self._entries.currsize)

    def put(self, sequence: Sequence, prefix: CachedPrefix) -> None:
        """Save a prefix in place of the channel's last one of its kind."""
        self._entries[sequence.model, sequence.channel, sequence.prefetch_only] = prefix

    def longest_match(self, sequence: Sequence) -> tuple[Any, int]:
        """The saved cache that shares the longest prefix with a prompt, and its length in tokens.

        A piece is left to prefill, since sampling needs the logits after it.
        """
        best, length, most = None, 0, len(sequence.prompt_ids) - MIN_PIECE
        for prefetched in (False, True):
            prefix = self._entries.get((sequence.model, sequence.channel, prefetched))
            if prefix is None:
                continue
            shared = min(_common_prefix_length(prefix.ids, sequence.prompt_ids), most)
            if shared > length:
                best, length = prefix.kv, shared
        return best, length

    def evict_to(self, max_bytes: int) -> None:
        """Evict prefixes until they take at most `max_bytes`."""
        while self._entries and self.nbytes > max_bytes:
            self._entries.popitem()

    def drop_model(self, model: int) -> None:
        """Drop the prefixes of a model that is gone."""
        for key in [key for key in self._entries if key[0] == model]:
            del self._entries[key]


class KVCacheRows:
    """The rows of one runner and the sequences in them."""

    def __init__(self, runner: Runner, prefix_cache: PrefixCache) -> None:
        self._runner = runner
        self._prefix_cache = prefix_cache
        self._rows: list[Sequence] = []
        self._filled_lengths: dict[int, int] = {}
        self.prefill_s_per_token = 0.0
        """The latest measured prefill time of a token; 0 before the first."""

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._rows

    @property
    def pack_tokens(self) -> int:
        """Tokens of prompts that are worth prefilling together."""
        return PACK_TOKENS if self._runner.packs else 0

    @property
    def excess_bytes(self) -> int:
        """Memory that rows hold beyond what the scheduler has reserved for their sequences.

        A row keeps the memory of the longest sequence that it ever held, until it is released.
        """
        size, excess = self._runner.kv_bytes_per_token, 0
        for row, length in self._filled_lengths.items():
            reserved = self._rows[row].max_cache_bytes if row < len(self._rows) else 0
            excess += max(0, length * size - reserved)
        return excess

    def release_free_rows(self) -> None:
        """Return the memory of the rows that are not in use."""
        for row in [row for row in self._filled_lengths if row >= len(self._rows)]:
            self._release_row(row)

    def allocate(self, sequence: Sequence) -> None:
        """Give a sequence the next row, filled with the longest prefix that is cached."""
        row = len(self._rows)
        self._rows.append(sequence)
        self._runner.use_adapter(row, sequence.adapter)
        held = self._filled_lengths.get(row, 0) * self._runner.kv_bytes_per_token
        if held > sequence.max_cache_bytes:
            self._release_row(row)
        saved, sequence.num_cached_tokens = (
            self._prefix_cache.longest_match(sequence) if sequence.channel else (None, 0)
        )
        if sequence.num_cached_tokens:
            self._runner.restore(row, saved, sequence.num_cached_tokens)
            self._record_length(row, sequence.num_cached_tokens)

    def prefill(
        self, sequences: Collection[Sequence], budget: int
    ) -> list[tuple[Sequence, Logits]]:
        """Prefill at most `budget` tokens of the prompts in neighbouring rows, one after the other;
        the sequences whose prompts are complete now, with the logits (V,) after them."""
        first = min(map(self._rows.index, sequences))
        read: list[Sequence] = []
        chunks: list[Chunk] = []
        for one in self._rows[first : first + len(sequences)]:
            start = one.num_cached_tokens
            if not (count := _piece(one.unprefilled, budget)):
                break
            read.append(one)
            chunks.append((one.prompt_ids[start : start + count], start))
            budget -= count
        if not read:
            return []
        began = time.perf_counter()
        logits = self._runner.prefill_together(first, chunks)
        tokens = sum(len(ids) for ids, _ in chunks)
        if tokens >= MIN_TIMED_TOKENS:
            self.prefill_s_per_token = (time.perf_counter() - began) / tokens
        for row, (one, (ids, _)) in enumerate(zip(read, chunks, strict=True), first):
            one.num_prefilled_tokens += len(ids)
            one.num_cached_tokens += len(ids)
            self._record_length(row, one.num_cached_tokens)
        return [(one, row) for one, row in zip(read, logits, strict=True) if not one.unprefilled]

    def decode(self, sequences: Collection[Sequence]) -> tuple[list[Sequence], Logits]:
        """Run the last token of each sequence; the sequences in the order of the logits (B, V)."""
        rows = self._rows[: len(sequences)]
        assert set(rows) == set(sequences)
        ids = [one.reply_ids[-1] for one in rows]
        logits = self._runner.decode(ids, [one.num_cached_tokens for one in rows])
        for row, one in enumerate(rows):
            one.num_cached_tokens += 1
            self._record_length(row, one.num_cached_tokens)
        return rows, logits

    def free(self, sequence: Sequence, *, keep: bool) -> None:
        """Free the row of a sequence, if it has one; `keep` saves its prefix for the channel."""
        if sequence not in self._rows:
            return
        row = self._rows.index(sequence)
        if keep and sequence.channel and sequence.num_cached_tokens:
            self._save_prefix(row, sequence)
        # close the gap with the last decoding row, and that one's with the last of all, so that the
        # decoding rows stay in front
        last = len(self._rows) - 1
        last_decoding = sum(not one.unprefilled for one in self._rows) - 1
        for gap in (row, last_decoding) if row < last_decoding else (row,):
            other = last_decoding if gap < last_decoding else last
            if gap < other:
                self._copy_row(other, gap)
        self._rows.pop()
        self._runner.use_adapter(len(self._rows), None)
        sequence.num_cached_tokens = 0

    def _save_prefix(self, row: int, sequence: Sequence) -> None:
        try:
            saved = self._runner.save(row, sequence.num_cached_tokens)
        except (MemoryError, RuntimeError):  # the next prompt is prefilled from its start, no more
            log.warning("no memory to cache the prefix of a channel")
            return
        nbytes = sequence.num_cached_tokens * self._runner.kv_bytes_per_token
        self._prefix_cache.put(sequence, CachedPrefix(sequence.cached_ids, saved, nbytes))

    def _copy_row(self, row: int, to: int) -> None:
        self._rows[to] = self._rows[row]
        self._runner.copy_row(row, to, self._rows[to].num_cached_tokens)
        self._record_length(to, self._rows[to].num_cached_tokens)

    def _release_row(self, row: int) -> None:
        self._runner.release(row)
        del self._filled_lengths[row]

    def _record_length(self, row: int, length: int) -> None:
        self._filled_lengths[row] = max(length, self._filled_lengths.get(row, 0))


def _piece(unprefilled: int, budget: int) -> int:
    """How many of the tokens to prefill now; neither that nor the rest is less than MIN_PIECE."""
    if unprefilled <= budget:
        return unprefilled
    count = min(budget, unprefilled - MIN_PIECE)
    return count if count >= MIN_PIECE else 0


def _common_prefix_length(a: list[int], b: list[int]) -> int:
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length

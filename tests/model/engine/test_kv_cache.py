"""Rows: never shared, never with a gap, and always with what their sequence has read."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from model.adapter import Adapter
from model.engine.kv_cache import CachedPrefix, KVCacheRows, PrefixCache
from model.engine.sequence import Sequence
from model.runners.base import Chunk, Logits
from model.sampling import SamplingParams

ROWS = 4
PARAMS = SamplingParams()


class Ledger:
    """A runner that keeps which token is at which position of which row, and scores the last."""

    kv_bytes_per_token = 1
    weight_bytes = 0
    packs = True

    def __init__(self) -> None:
        self.rows: dict[int, list[int]] = {}

    def use_adapter(self, row: int, adapter: Adapter | None) -> None:
        pass

    def prefill(self, row: int, ids: Many[int], past: int) -> Logits:
        self.rows[row] = [*self.rows.get(row, [])[:past], *ids]
        assert len(self.rows[row]) == past + len(ids)
        return np.array([self.rows[row][-1]], np.float32)

    def prefill_together(self, row: int, chunks: Many[Chunk]) -> Logits:
        return np.stack([self.prefill(row + n, *chunk) for n, chunk in enumerate(chunks)])

    def decode(self, ids: Many[int], past: Many[int]) -> Logits:
        return np.stack([self.prefill(n, [ids[n]], past[n]) for n in range(len(ids))])

    def copy_row(self, row: int, to: int, length: int) -> None:
        self.rows[to] = self.rows.get(row, [])[:length]
        assert len(self.rows[to]) == length

    def save(self, row: int, length: int) -> list[int]:
        assert len(self.rows[row]) >= length
        return self.rows[row][:length]

    def restore(self, row: int, saved: list[int], length: int) -> None:
        self.rows[row] = saved[:length]

    def release(self, row: int) -> None:
        del self.rows[row]


class Rows(RuleBasedStateMachine):
    """Sequences come, are read in pieces, decode and leave, in any order."""

    sequences = Bundle("sequences")

    def __init__(self) -> None:
        super().__init__()
        self.runner, self.kept = Ledger(), PrefixCache()
        self.batch = KVCacheRows(self.runner, self.kept)
        self.inside: list[Sequence] = []

    @rule(
        target=sequences,
        prompt=st.lists(st.integers(0, 2), min_size=1, max_size=12),
        channel=st.integers(0, 2),
        idle=st.booleans(),
    )
    def come(self, prompt: list[int], channel: int, idle: bool) -> Sequence:
        ahead = idle and bool(channel)
        one = Sequence(
            1, 1, prompt, PARAMS, 0, channel=channel, prefetch_only=ahead, max_cache_bytes=100
        )
        if len(self.inside) < ROWS:
            self.batch.allocate(one)
            self.inside.append(one)
            assert one.unprefilled >= 1
        return one

    @rule(budget=st.integers(4, 20))
    def read(self, budget: int) -> None:
        unread = [one for one in self.inside if one.unprefilled]
        if not unread:
            return
        before = {one: one.unprefilled for one in unread}
        complete = self.batch.prefill(unread, budget)
        assert {one for one, _ in complete} == {one for one in unread if not one.unprefilled}
        assert 0 < sum(before[one] - one.unprefilled for one in unread) <= budget
        for one in unread:
            pieces = {before[one] - one.unprefilled, one.unprefilled}
            assert 1 not in pieces or before[one] == 1
        for one, logits in complete:
            assert logits[0] == one.prompt_ids[-1]
            one.reply_ids.append(len(one.reply_ids) % 3)

    @rule()
    def decode(self) -> None:
        ready = [one for one in self.inside if not one.unprefilled]
        if not ready:
            return
        order, logits = self.batch.decode(ready)
        assert set(order) == set(ready)
        for one, row in zip(order, logits, strict=True):
            assert row[0] == one.reply_ids[-1]
            one.reply_ids.append(len(one.reply_ids) % 3)

    @rule(one=sequences, keep=st.booleans())
    def leave(self, one: Sequence, keep: bool) -> None:
        self.batch.free(one, keep=keep)
        assert one not in self.batch
        if one in self.inside:
            self.inside.remove(one)

    @rule()
    def release(self) -> None:
        self.batch.release_free_rows()
        assert self.batch.excess_bytes == 0
        assert set(self.runner.rows) <= set(range(len(self.inside)))

    @rule(memory=st.integers(0, 30))
    def trim(self, memory: int) -> None:
        self.kept.evict_to(memory)
        assert self.kept.nbytes <= memory

    @invariant()
    def each_has_a_row_of_its_own_with_what_it_read(self) -> None:
        assert self.batch._rows[: len(self.inside)] == self.batch._rows
        assert set(self.batch._rows) == set(self.inside)
        for row, one in enumerate(self.batch._rows):
            assert self.runner.rows.get(row, [])[: one.num_cached_tokens] == one.cached_ids
        begun = [bool(one.unprefilled) for one in self.batch._rows]
        assert begun == sorted(begun), "those that decode come first"


Rows.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRows = Rows.TestCase


def test_the_longest_beginning_that_is_known_is_found() -> None:
    kept = PrefixCache()

    def sequence(prompt: list[int], **more: bool) -> Sequence:
        return Sequence(1, 1, prompt, PARAMS, 0, channel=5, **more)

    kept.put(sequence([]), CachedPrefix([1, 2, 3, 4], "reply", 4))
    kept.put(sequence([], prefetch_only=True), CachedPrefix([1, 2, 9], "ahead", 3))
    assert kept.longest_match(sequence([1, 2, 3, 7, 7])) == ("reply", 3)
    assert kept.longest_match(sequence([1, 2, 9, 7, 7])) == ("ahead", 3)
    assert kept.longest_match(sequence([1, 2, 3, 4])) == ("reply", 2)  # a piece is left to read
    assert kept.longest_match(sequence([1])) == (None, 0)
    assert kept.longest_match(sequence([7, 2, 3])) == (None, 0)
    assert kept.longest_match(Sequence(1, 2, [1, 2, 3], PARAMS, 0, channel=5)) == (None, 0)
    kept.put(sequence([]), CachedPrefix([1], "newer", 1))
    assert kept.nbytes == 4
    kept.drop_model(1)
    assert kept.nbytes == 0

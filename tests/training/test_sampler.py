"""The order of rows: like lengths together, every row once, an order of its own each epoch."""

from __future__ import annotations

import random

import pytest

from training.sampler import LikeLengths

BATCH = 8


def padding(lengths: list[int], order: list[int]) -> float:
    """The share of padding, where each batch is padded to its longest row."""
    batches = [order[n : n + BATCH] for n in range(0, len(order), BATCH)]
    room = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    return 1 - sum(lengths) / room


@pytest.mark.parametrize("count", [1, 7, 8, 75, 1003])
def test_every_row_comes_once_and_little_is_padded(count: int) -> None:
    chance = random.Random(count)
    lengths = [chance.randint(4, 128) for _ in range(count)]
    order = list(LikeLengths(lengths, BATCH, seed=1))
    assert sorted(order) == list(range(count))
    if count > 8:
        assert padding(lengths, order) < 0.1 < padding(lengths, list(range(count)))


def test_an_epoch_has_an_order_of_its_own_and_the_same_one_again() -> None:
    lengths = list(range(100))
    sampler = LikeLengths(lengths, BATCH, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first != second
    assert list(LikeLengths(lengths, BATCH, seed=2)) != first
    assert first[:BATCH] != list(range(BATCH)), "batches do not come from short to long"

"""The Runner protocol: the weights of one model, and a KV cache with a fixed number of rows.

A runner knows nothing of sequences, sampling or queues. `model.engine.kv_cache` assigns the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.adapter import Adapter

Logits = NDArray[np.float32]
"""Of the next token: (V,) for one sequence, (B, V) for a batch."""

Chunk = tuple[Sequence[int], int]
"""Tokens of a prompt, and the position of the first of them."""

MIN_MULTITHREAD_PARAMETERS = 20_000_000
"""Below, a second CPU thread costs more than it gains: steps are so short that threads mostly wait
for each other, and for long if a training run has the cores."""


def useful_threads(parameters: int, threads: int) -> int:
    """How many of the available CPU threads a model should use."""
    return threads if parameters >= MIN_MULTITHREAD_PARAMETERS else 1


class Runner(Protocol):
    """One model. Shapes: B sequences, V tokens in the vocabulary.

    Rows are numbered from 0 and independent of each other: what a row computes depends on its own
    tokens alone, whoever else is in the batch and however its prompt was cut into pieces. (A piece
    of one token is computed a little differently: its sums are made in another order.)
    """

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one position of one row in the KV cache."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights and of the room for adapters; what layers share counts once."""

    @property
    def packs(self) -> bool:
        """Whether reading several short prompts together takes less time than one by one."""

    def prepare(self, adapter: Adapter) -> None:
        """Make room for adapters of this rank at these matrices, in any thread: while a step runs,
        too."""

    def trial(self, adapter: Adapter, ids: Sequence[int]) -> Logits:
        """Logits (V,) after `ids` with an adapter, in a row of its own, in any thread."""

    def use_adapter(self, row: int, adapter: Adapter | None) -> None:
        """The row computes with an adapter that was prepared, or with none."""

    def prefill(self, row: int, ids: Sequence[int], past: int) -> Logits:
        """Run `ids` at the positions from `past` on; logits (V,) after the last of them.

        The row's cache holds `past` positions before and `past + len(ids)` after.
        """

    def prefill_together(self, row: int, chunks: Sequence[Chunk]) -> Logits:
        """`prefill` in the neighbouring rows from `row` on; logits (B, V).

        Where the runner `packs`, that takes less time than one after the other.
        """

    def decode(self, ids: Sequence[int], past: Sequence[int]) -> Logits:
        """Run one token in each row 0 to B-1, row n at position `past[n]`; logits (B, V)."""

    def copy_row(self, row: int, to: int, length: int) -> None:
        """Copy the first `length` positions of a row, and its adapter, to another one."""

    def save(self, row: int, length: int) -> Any:
        """A copy of the first `length` positions of a row."""

    def restore(self, row: int, saved: Any, length: int) -> None:
        """Fill the first `length` positions of a row from a copy of `save`."""

    def release(self, row: int) -> None:
        """The row is unused: its memory may be returned to the system."""

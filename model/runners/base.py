"""What the engine needs of a runner: the one place where a model computes.

A runner holds the weights of one model and the key-value cache of a fixed number of rows, one
sequence a row. It knows nothing of sequences, sampling or queues, so another way to compute
changes nothing else. Who sits in which row is the business of `model.engine.kv_cache`.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""Scores of the next token, not normalised: (V,) for one sequence, (B, V) for a batch."""

MIN_MULTITHREAD_PARAMETERS = 20_000_000
"""Parameters below which a second CPU thread costs more than it gives: the work of a step is so
short that the threads mostly wait for each other, and wait long if a training run has the cores."""


def useful_threads(parameters: int, threads: int) -> int:
    """How many of so many CPU threads a model of so many parameters is to use."""
    return threads if parameters >= MIN_MULTITHREAD_PARAMETERS else 1


class Runner(Protocol):
    """One model. Shapes: B sequences, V tokens in the vocabulary.

    Rows are numbered from 0 and independent of each other: what a row computes depends on its own
    tokens alone, whoever else is in the batch and however its prompt was cut into pieces.
    """

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory that one position of one row takes in the cache."""

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take."""

    def prefill(self, row: int, ids: Many[int], past: int) -> Logits:
        """Read `ids` at the positions from `past` on; (V,), the scores after the last of them.

        The row's cache holds its first `past` positions already, and `past + len(ids)` after.
        """

    def decode(self, ids: Many[int], past: Many[int]) -> Logits:
        """Read one token in each of the rows 0 to B-1, row n at the position `past[n]`; (B, V)."""

    def copy_row(self, row: int, to: int, length: int) -> None:
        """Copy the first `length` positions of a row to another one."""

    def save(self, row: int, length: int) -> Any:
        """The first `length` positions of a row, `length * token_bytes` of memory."""

    def restore(self, row: int, saved: Any, length: int) -> None:
        """Fill the first `length` positions of a row from what `save` gave."""

    def release(self, row: int) -> None:
        """The row is empty: its memory may go back to the system."""

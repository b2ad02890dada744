"""An adapter in memory: LoRA matrices that change what a base model says (Hu et al. 2021, "LoRA").

A product x W becomes x W + scale (x A) B, with A (in, rank) and B (rank, out). Knows the matrices
of a GPT-2 by name. Does not know files or runners.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

RANK_STEP = 8
"""Runners make room for ranks that are multiples of it."""

_keys = itertools.count(1)


@dataclass(frozen=True, slots=True, eq=False)
class LowRankPair:
    """`a` (in, rank) and `b` (rank, out), whose largest values are 1: so half precision keeps their
    digits. The product is multiplied by `scale`."""

    a: NDArray[np.float16]
    b: NDArray[np.float16]
    scale: float


@dataclass(frozen=True, eq=False)
class Adapter:
    """Pairs by the name of their matrix, `h.0.attn.c_attn`. `key` tells two loads of one apart."""

    rank: int
    pairs: Mapping[str, LowRankPair]
    key: int = field(default_factory=lambda: next(_keys))

    @cached_property
    def nbytes(self) -> int:
        """Memory of its matrices."""
        return sum(pair.a.nbytes + pair.b.nbytes for pair in self.pairs.values())

    @cached_property
    def matrices(self) -> frozenset[str]:
        """Which matrices of a block it changes (`model.convert.shapes`), in any block."""
        return frozenset(name.split(".", 2)[2] for name in self.pairs)


def low_rank_pair(a: NDArray[np.float32], b: NDArray[np.float32], scale: float) -> LowRankPair:
    """A pair in half precision. `a` (in, rank), `b` (rank, out)."""
    largest_a, largest_b = (float(np.abs(one).max()) or 1.0 for one in (a, b))
    half_a, half_b = (
        (one / np.float32(largest)).astype(np.float16, order="C")
        for one, largest in ((a, largest_a), (b, largest_b))
    )
    return LowRankPair(half_a, half_b, scale * largest_a * largest_b)


def padded_rank(rank: int) -> int:
    """The rank for which a runner makes room."""
    return -(-rank // RANK_STEP) * RANK_STEP

"""Room for an adapter in each row of a batch, for torch: two batched products beside those of the
matrix itself.

Does not know the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from model.adapter import Adapter, LowRankPair, padded_rank

Graphs = dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]]
"""Captured decode steps, by the number of rows and the length."""


class AdapterSlots:
    """The adapters of `rows` rows at some `matrices` of each block, padded with zeros to `rank`.
    Filled when a row is next run. `graphs` were captured with these tensors.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        *,
        matrices: frozenset[str],
        rows: int,
        rank: int,
        like: Tensor,
    ) -> None:
        """`shapes` (in, out) of all matrices by name; `like` has the device and the dtype."""
        sizes = {name: one for name, one in shapes.items() if name.split(".", 2)[2] in matrices}
        self._a = {name: like.new_zeros((rows, size, rank)) for name, (size, _) in sizes.items()}
        self._b = {name: like.new_zeros((rows, rank, size)) for name, (_, size) in sizes.items()}
        self._held = [0] * rows
        self.matrices, self.rank = matrices, rank
        self.nbytes = sum(one.nbytes for one in [*self._a.values(), *self._b.values()])
        self.graphs: Graphs = {}

    def has_room(self, adapter: Adapter) -> bool:
        """Whether it can be filled in."""
        return adapter.matrices <= self.matrices and padded_rank(adapter.rank) <= self.rank

    def fill(self, row: int, adapters: Sequence[Adapter | None]) -> None:
        """Put the adapters into the rows from `row` on, unless they are there already."""
        for at, adapter in enumerate(adapters, row):
            key = adapter.key if adapter else 0
            if self._held[at] != key:
                self._held[at] = key
                for name in self._a:
                    self._fill_pair(at, name, adapter.pairs.get(name) if adapter else None)

    def _fill_pair(self, row: int, name: str, pair: LowRankPair | None) -> None:
        a, b = self._a[name][row], self._b[name][row]
        b.zero_()
        if pair is not None:
            rank = pair.a.shape[1]
            scaled = pair.b.astype(np.float32) * np.float32(pair.scale)
            a.zero_()
            a[:, :rank] = torch.from_numpy(pair.a)
            b[:rank] = torch.from_numpy(scaled)

    def add(self, y: Tensor, x: Tensor, name: str, rows: slice) -> Tensor:
        """y (B, T, out) of x (B, T, in) and a matrix, with the adapters of `rows`."""
        if name not in self._a:
            return y
        return torch.baddbmm(y, torch.bmm(x, self._a[name][rows]), self._b[name][rows])

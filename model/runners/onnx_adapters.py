"""Room for an adapter in each row of a batch, for ONNX Runtime: the inputs `lora_a_*`, `lora_b_*`
and `lora_c_*` of its graphs (`model.convert.onnx_graph`).

They lie by row, as the KV cache does, so that a batch is a slice. An int8 graph gives its matrices
x' = (x - shift) / scale instead of x (`model.convert.int8.folding`), but adapters were learned
beside x: as x A = x' (scale A) + shift A, their A is scaled, and C is shift A. What the adapter
gives to the values of attention is divided by the scale that those have for the next matrix.
Does not know the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.adapter import Adapter, LowRankPair
from model.convert.int8.folds import Fold

Slots = NDArray[np.float32]
Values = NDArray[np.float16] | NDArray[np.float32]


class AdapterSlots:
    """The adapters of `rows` rows, padded with zeros to `rank`. Filled when a row is next run, so
    that a row that goes on with the same adapter costs nothing."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        folds: Mapping[str, Fold],
        *,
        heads: int,
        rows: int,
        rank: int,
    ) -> None:
        sizes = {one.name: one.shape for one in session.get_inputs()}
        names = [name.removeprefix("lora_a_") for name in sizes if name.startswith("lora_a_")]
        self._heads = heads
        self._a: dict[str, Slots] = {
            name: np.zeros((rows, sizes[f"lora_a_{name}"][1], rank), np.float32) for name in names
        }
        self._b: dict[str, Slots] = {
            name: np.zeros((rows, rank, sizes[f"lora_b_{name}"][2]), np.float32) for name in names
        }
        self._c: dict[str, Slots] = {
            name: np.zeros((rows, 1, rank), np.float32)
            for name in names
            if f"lora_c_{name}" in sizes
        }
        self._folds = folds
        self._held = [0] * rows
        self.rank = rank
        every = [*self._a.values(), *self._b.values(), *self._c.values()]
        self.nbytes = sum(one.nbytes for one in every)

    def fill(self, row: int, adapters: Sequence[Adapter | None]) -> None:
        """Put the adapters into the rows from `row` on, unless they are there already."""
        for at, adapter in enumerate(adapters, row):
            key = adapter.key if adapter else 0
            if self._held[at] != key:
                self._held[at] = key
                self._fill_row(at, adapter)

    def _fill_row(self, row: int, adapter: Adapter | None) -> None:
        for name, a in self._a.items():
            slot_a, slot_b = a[row], self._b[name][row]
            pair = adapter.pairs.get(name) if adapter else None
            if pair is None:
                slot_b[:] = 0  # that is enough, as long as A is finite
                continue
            rank = pair.a.shape[1]
            a_values, b_values, c_values = self._folded(name, pair)
            _put(slot_a[:, :rank], a_values, self._heads, axis=0)
            slot_a[:, rank:] = 0
            _put(slot_b[:rank], b_values, 3 * self._heads, axis=1)
            slot_b[:rank] *= np.float32(pair.scale)
            slot_b[rank:] = 0
            if (slot_c := self._c.get(name)) is not None:
                slot_c[row, 0, :rank] = c_values
                slot_c[row, 0, rank:] = 0

    def _folded(self, name: str, pair: LowRankPair) -> tuple[Values, Values, Values | None]:
        """A, B and C for what the graph gives the matrix to read and makes of its product."""
        a: Values = pair.a
        b: Values = pair.b
        c = None
        if (fold := self._folds.get(name)) is not None:
            exact = a.astype(np.float32)
            a, c = exact * fold.scale[:, None], fold.shift @ exact
        block, _, matrix = name.rpartition(".")
        if matrix == "c_attn" and (read := self._folds.get(f"{block}.c_proj")) is not None:
            b = b.astype(np.float32)
            b[:, -len(read.scale) :] /= read.scale
        return a, b, c

    def bind(self, binding: onnxruntime.IOBinding, row: int, count: int, *, empty: bool) -> None:
        """Bind the rows from `row` on; `empty`: as adapters of rank 0."""
        for letter, slots in (("a", self._a), ("b", self._b), ("c", self._c)):
            for name, whole in slots.items():
                rows = whole[row : row + count]
                if empty:
                    rows = rows[:, :0] if letter == "b" else rows[:, :, :0]
                place = ("cpu", 0, np.float32, rows.shape, whole[row:].ctypes.data)
                binding.bind_input(f"lora_{letter}_{name}", *place)


def _put(slot: Slots, values: Values, heads: int, axis: int) -> None:
    """Copy values into a slot in which each of the heads along an axis may be padded."""
    if slot.shape == values.shape:
        slot[:] = values
        return
    size, padded = values.shape[axis] // heads, slot.shape[axis] // heads
    parts = values.reshape(*values.shape[:axis], heads, size, *values.shape[axis + 1 :])
    gap = [(0, 0)] * parts.ndim
    gap[axis + 1] = (0, padded - size)
    slot[:] = np.pad(parts, gap).reshape(slot.shape)

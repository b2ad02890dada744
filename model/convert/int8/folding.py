"""Evens out the channels that a matrix product reads, so that int8 has steps left for all of them.

One large channel makes the scale of its row so large that the others are rounded to nothing. Of a
product x W, each channel of x is moved by a `shift` z and divided by a `scale` s:

    x W = ((x - z) / s) (s W) + z W

The shift goes into the bias before and the bias after (Wei et al. 2023, "Outlier Suppression+"),
the scale into the weights before and after (Xiao et al. 2023, "SmoothQuant", equation 4). Both cost
nothing at run time where x comes from a norm, or from the values of attention, whose weights sum
to 1. Behind an activation function the graph does both.

Knows arrays and the names of a GPT-2's tensors. Does not know the graph or how x is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.convert.checkpoint import Array
from model.convert.int8.folds import Fold
from model.convert.onnx_graph import LM_HEAD, MAX_UINT8, MIN_SCALE, ZERO_POINT, quantise
from model.convert.shapes import EMBEDDING, HEAD

STRENGTHS = (0.4, 0.55, 0.7)
"""SmoothQuant's alpha: how much of the range moves from the activations to the weights."""
EDGE_PERCENT = 2
"""Rows, in percent, that a robust range leaves out at either end. The first token of a text can be
far from all others (Xiao et al. 2024, "attention sinks"), and a row has a scale of its own."""
MIN_RANGE, MIN_ENERGY = 1e-5, 1e-30


def identity_fold(channels: int) -> Fold:
    return Fold(np.zeros(channels, np.float32), np.ones(channels, np.float32))


@dataclass(frozen=True, slots=True)
class Fit:
    """A fold and the uint8 that is 0, and the `error` of the int8 product with them: the mean over
    some rows of its energy in relation to that of what varies in the exact product."""

    fold: Fold
    zero_point: int
    error: float


class Fitting:
    """Tries folds for `rows` (N, in) times `matrix` (in, out), which may leave out columns, since
    each has its own scale. `top` is the largest quantized weight."""

    def __init__(self, rows: Array, matrix: Array, top: int) -> None:
        self._rows, self._matrix, self._top = rows, matrix, top
        exact = rows @ matrix
        varying = np.square(exact - np.median(exact, axis=0)).sum(1)
        self._usual = np.maximum(varying + np.median(varying), MIN_ENERGY)

    def without_fold(self, zero_points: Sequence[int] = (ZERO_POINT,)) -> Fit:
        """The best of these zero points, without a fold."""
        fold = identity_fold(self._rows.shape[1])
        return min((self._try(fold, one) for one in zero_points), key=_error)

    def with_fold(self, *, shifting: bool) -> Fit:
        """The best of all folds."""
        return min(map(self._try, _candidates(self._rows, self._matrix, shifting)), key=_error)

    def _try(self, fold: Fold, zero_point: int = ZERO_POINT) -> Fit:
        """In the arithmetic of the graph."""
        x = (self._rows - fold.shift) / fold.scale
        weights = self._matrix * fold.scale[:, None]
        largest = np.maximum(np.abs(x).max(1, keepdims=True), MIN_SCALE)
        whole, step = quantise(weights, self._top)
        steps = MAX_UINT8 - zero_point
        rounded = np.clip(np.round(x / largest * steps), -zero_point, steps)
        product = rounded @ whole.astype(np.float32) * (largest / steps) * step
        wrong = np.square(product - x @ weights).sum(1)
        error = float((wrong / self._usual).mean())
        return Fit(fold, zero_point, error if np.isfinite(error) else np.inf)


def _error(fit: Fit) -> float:
    return fit.error


def _candidates(rows: Array, matrix: Array, shifting: bool) -> Iterator[Fold]:
    weights = np.maximum(np.abs(matrix).max(1), MIN_RANGE)
    for edge in (0, EDGE_PERCENT):
        low, high = np.percentile(rows, (edge, 100 - edge), axis=0).astype(np.float32)
        shift = (low + high) / 2 if shifting else np.zeros_like(low)
        reach = np.maximum(np.maximum(high - shift, shift - low), MIN_RANGE)
        for strength in STRENGTHS:
            scale = reach**strength / weights ** (1 - strength)
            yield Fold(shift, (scale / np.exp(np.log(scale).mean())).astype(np.float32))


Edit = Callable[[Array], Array]


class FoldedWeights(Mapping[str, Array]):
    """The tensors of a checkpoint with folds in them: what they compute is the same."""

    def __init__(self, weights: Mapping[str, Array], folds: Mapping[str, Fold]) -> None:
        """`folds` by the matrix that they are made for, as the graph calls it."""
        self._weights = weights
        self._edits: dict[str, list[Edit]] = {}
        self._head_scale: Array | None = None
        # a block's attention folds its values, so after the product that makes them
        for name, fold in sorted(folds.items()):
            self._fold(name, fold)

    def __getitem__(self, key: str) -> Array:
        if key == HEAD and self._head_scale is not None:
            head: Array = self._weights[HEAD if HEAD in self._weights else EMBEDDING]
            return head * self._head_scale
        array = self._weights[key]
        for edit in self._edits.get(key, ()):
            array = edit(array)
        return array

    def __contains__(self, key: object) -> bool:
        return key in self._weights or (key == HEAD and self._head_scale is not None)

    def __iter__(self) -> Iterator[str]:
        yield from self._weights
        if HEAD in self and HEAD not in self._weights:
            yield HEAD

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _fold(self, name: str, fold: Fold) -> None:
        block, _, part = name.rpartition(".")
        if name == LM_HEAD:
            self._head_scale = fold.scale
            self._fold_norm("ln_f", fold)
            return
        block = block.removesuffix(".attn").removesuffix(".mlp")
        self._edit(f"{name}.weight", lambda w: w * fold.scale[:, None])
        if fold.has_shift:
            moved = fold.shift @ self._weights[f"{name}.weight"]
            self._edit(f"{name}.bias", lambda b: b + moved)
        if part == "c_attn":
            self._fold_norm(f"{block}.ln_1", fold)
        elif part == "c_fc":
            self._fold_norm(f"{block}.ln_2", fold)
        elif name.endswith("attn.c_proj"):
            self._fold_values(f"{block}.attn.c_attn", fold)

    def _fold_norm(self, norm: str, fold: Fold) -> None:
        self._edit(f"{norm}.weight", lambda w: w / fold.scale)
        self._edit(f"{norm}.bias", lambda b: (b - fold.shift) / fold.scale)

    def _fold_values(self, product: str, fold: Fold) -> None:
        others = 2 * len(fold.scale)  # the queries and keys
        scale = np.concatenate([np.ones(others, np.float32), fold.scale])
        shift = np.concatenate([np.zeros(others, np.float32), fold.shift])
        self._edit(f"{product}.weight", lambda w: w / scale)
        self._edit(f"{product}.bias", lambda b: (b - shift) / scale)

    def _edit(self, key: str, edit: Edit) -> None:
        self._edits.setdefault(key, []).append(edit)

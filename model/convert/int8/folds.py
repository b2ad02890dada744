"""What is folded into the weights of an int8 graph, and the file that tells the runner of it.

An adapter was learned beside the weights as they were (`model.runners.onnx_adapters`). Knows
arrays; imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

FOLDS_FILE = "folds.safetensors"


@dataclass(frozen=True, slots=True)
class Fold:
    """The `shift` and the `scale` of each channel that a matrix reads: it is given
    (x - shift) / scale (`model.convert.int8.folding`)."""

    shift: NDArray[np.float32]
    scale: NDArray[np.float32]

    @property
    def is_identity(self) -> bool:
        return not self.has_shift and bool((self.scale == 1).all())

    @property
    def has_shift(self) -> bool:
        return bool(self.shift.any())


def write_folds(folds: Mapping[str, Fold], folder: Path) -> None:
    """Write the folds, by the matrices that read what is folded."""
    arrays = {name: np.stack([one.shift, one.scale]) for name, one in folds.items()}
    save_file(arrays, folder / FOLDS_FILE)


def read_folds(folder: Path) -> dict[str, Fold]:
    """The folds of a graph; none if nothing was folded."""
    file = folder / FOLDS_FILE
    if not file.is_file():
        return {}
    return {name: Fold(*array) for name, array in load_file(file).items()}

"""The order of rows: rows of like length together, so that little is padded; anew each epoch.

Knows lengths only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

WINDOW = 50
"""Batches that are sorted together. More would pad less, and mix rows less."""


class LikeLengths(Sampler[int]):
    """Row numbers in which each `batch` that follow each other have about the same length.

    Shuffled rows are sorted by length within windows of 50 batches, and the batches are shuffled.
    The library's sampler sorts a quarter of few rows at most, which pads small data sets much, and
    leaves the batches from long to short. An epoch's order depends on `seed` and the epoch alone,
    so a run that goes on takes up the same one.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = list(lengths)
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the begin of each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(self._seed + self._epoch)
        rows = torch.randperm(len(self), generator=chance).tolist()
        size = WINDOW * self._batch
        batches: list[list[int]] = []
        for start in range(0, len(rows), size):
            window = sorted(rows[start : start + size], key=self._lengths.__getitem__)
            batches += [window[n : n + self._batch] for n in range(0, len(window), self._batch)]
        short = [one for one in batches if len(one) < self._batch]  # only the last one can be
        whole = [one for one in batches if len(one) == self._batch]
        for n in torch.randperm(len(whole), generator=chance).tolist():
            yield from whole[n]
        for one in short:
            yield from one

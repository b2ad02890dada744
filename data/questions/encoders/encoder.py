"""Vectors of texts that are remembered, whatever model reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Lock

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

Vector = NDArray[np.float32]

CACHED = 10_000
"""Vectors that are remembered, 1 kB each: the same words and taught questions come up again."""
MAX_CHARS = 300
"""Of a longer text, the beginning says what is asked."""


class Encoder:
    """Unit vectors of texts, the same for the same text. Safe in several threads."""

    def __init__(self, read: Callable[[list[str]], NDArray[np.floating]]) -> None:
        """`read` gives a row for each text: (texts, dimensions)."""
        self._read = read
        self._known: LRUCache[str, NDArray[np.float16]] = LRUCache(CACHED)
        self._lock, self._encoding = Lock(), Lock()

    def forget(self) -> None:
        """Drop all vectors that are remembered."""
        with self._lock:
            self._known.clear()

    def encode(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts: (texts, dimensions)."""
        whole = (text[:MAX_CHARS].encode(errors="replace").decode() for text in texts)
        with self._encoding:
            return np.asarray(self._read(list(whole)), np.float32)

    def vectors(self, texts: Iterable[str]) -> dict[str, Vector]:
        """The vector of each text; those that are new are read in one go."""
        wanted = set(texts)
        with self._lock:
            known = {one: self._known[one] for one in wanted if one in self._known}
        if new := sorted(wanted - known.keys()):
            rows = self.encode(new).astype(np.float16)
            read = {one: row.copy() for one, row in zip(new, rows, strict=True)}
            known |= read
            with self._lock:
                self._known.update(read)
        return {one: vector.astype(np.float32) for one, vector in known.items()}

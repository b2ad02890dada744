"""A runner that computes nothing: each sequence says the tokens that the test wrote for it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many

import numpy as np

from model.adapter import Adapter
from model.runners.base import Chunk, Logits

Script = Callable[[int], Many[int | None]]


class ScriptedRunner:
    """`script` gives all the tokens of the sequence whose prompt is read as the n-th; None: no
    numbers come out. Keeps what it was asked to read, and does not forget a row too early."""

    kv_bytes_per_token = 1000
    weight_bytes = 1000
    packs = True

    def __init__(self, script: Script, vocabulary: int) -> None:
        self._script = script
        self._vocabulary = vocabulary
        self._prompts = 0
        self._rows: dict[int, tuple[int, list[int | None]]] = {}
        self.adapters: dict[int, Adapter | None] = {}
        self.reads: list[tuple[int, int]] = []
        """Of each read: from which position on, and how many tokens."""

    def use_adapter(self, row: int, adapter: Adapter | None) -> None:
        self.adapters[row] = adapter

    def prefill(self, row: int, ids: Many[int], past: int) -> Logits:
        self.reads.append((past, len(ids)))
        if past == 0:
            self._rows[row] = (0, list(self._script(self._prompts)))
            self._prompts += 1
        tokens = self._rows[row][1]
        self._rows[row] = (past + len(ids), tokens)
        return self._say(tokens[0])

    def prefill_together(self, row: int, chunks: Many[Chunk]) -> Logits:
        return np.stack([self.prefill(row + n, *chunk) for n, chunk in enumerate(chunks)])

    def decode(self, ids: Many[int], past: Many[int]) -> Logits:
        return np.stack([self._next(row, at) for row, at in enumerate(past)])

    def _next(self, row: int, past: int) -> Logits:
        prompt, tokens = self._rows[row]
        return self._say(tokens[past - prompt + 1])

    def _say(self, token: int | None) -> Logits:
        logits = np.zeros(self._vocabulary, np.float32)
        logits[token if token is not None else slice(None)] = 100 if token is not None else np.nan
        return logits

    def copy_row(self, row: int, to: int, length: int) -> None:
        self._rows[to] = self._rows[row]

    def save(self, row: int, length: int) -> tuple[int, list[int | None]]:
        return self._rows[row]

    def restore(self, row: int, saved: tuple[int, list[int | None]], length: int) -> None:
        self._rows[row] = saved

    def release(self, row: int) -> None:
        self._rows.pop(row, None)

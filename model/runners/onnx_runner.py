"""A Runner of ONNX Runtime, for the CPU.

The KV cache is one block of virtual memory with room for all positions in each row. The system
backs only pages that are written, so a row costs what it holds. The graph reads and writes the
cache in place: a step copies nothing.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from model.convert.artifact import GRAPH_FILE, ModelMetadata
from model.runners.base import Chunk, Logits, useful_threads
from model.runners.thread_pool import assign_threads

Cache = NDArray[np.float32]
ORT_ERRORS = (
    ort.EPFail,
    ort.EngineError,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NoModel,
    ort.NoSuchFile,
    ort.NotFound,
    ort.NotImplemented,
    ort.RuntimeException,
)
"""All that ONNX Runtime raises; its classes share no base."""
MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0
"""Linux's MAP_NORESERVE, for which Python has no name: memory counts when it is written."""


class OnnxRunner:
    """Runs a folder that `model.convert.build` made. Cache: (2 * layers, rows, heads, positions,
    size)."""

    def __init__(self, folder: Path, meta: ModelMetadata, *, rows: int, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as well
        assign_threads(options, useful_threads(meta.parameters, threads))
        options.enable_cpu_mem_arena = False  # it would keep the memory of the longest prompt
        try:
            self._session = onnxruntime.InferenceSession(
                folder / GRAPH_FILE, options, providers=["CPUExecutionProvider"]
            )
        except ORT_ERRORS as e:
            raise RuntimeError(f"{folder} cannot be opened") from e
        shape = (2 * meta.layers, rows, meta.heads, meta.positions, meta.head_size)
        self._cache_memory = _reserve_memory(4 * int(np.prod(shape)))
        self._cache: Cache = np.frombuffer(self._cache_memory, np.float32).reshape(shape)
        self._bindings: dict[tuple[int, int], onnxruntime.IOBinding] = {}
        self._logits: Logits = np.empty((rows, meta.vocabulary), np.float32)
        self.packs = meta.packs
        self.kv_bytes_per_token = 4 * 2 * meta.layers * meta.heads * meta.head_size
        self.weight_bytes = meta.weight_bytes

    def prefill(self, row: int, ids: Sequence[int], past: int) -> Logits:
        logits: Logits = self._run(row, [(ids, past)])[0]
        return logits

    def prefill_together(self, row: int, chunks: Sequence[Chunk]) -> Logits:
        if self.packs:
            return self._run(row, chunks)
        return np.stack([self.prefill(row + n, *chunk).copy() for n, chunk in enumerate(chunks)])

    def decode(self, ids: Sequence[int], past: Sequence[int]) -> Logits:
        return self._run(0, [([token], at) for token, at in zip(ids, past, strict=True)])

    def copy_row(self, row: int, to: int, length: int) -> None:
        self._cache[:, to, :, :length] = self._cache[:, row, :, :length]

    def save(self, row: int, length: int) -> Cache:
        return self._cache[:, row, :, :length].copy()

    def restore(self, row: int, saved: Cache, length: int) -> None:
        self._cache[:, row, :, :length] = saved[:, :, :length]

    def release(self, row: int) -> None:
        """Return the row's memory to the system; on Linux only."""
        if sys.platform != "linux":
            return
        size = self._cache[0, row].nbytes
        for layer in range(len(self._cache)):
            start = (layer * self._cache.shape[1] + row) * size
            first, end = -(-start // mmap.PAGESIZE), (start + size) // mmap.PAGESIZE
            if end > first:
                pages = (first * mmap.PAGESIZE, (end - first) * mmap.PAGESIZE)
                self._cache_memory.madvise(mmap.MADV_DONTNEED, *pages)

    def _run(self, row: int, chunks: Sequence[Chunk]) -> Logits:
        """Logits (B, V) after the last token of each chunk, in the rows from `row` on.

        They are valid until the next call.
        """
        binding = self._bindings.get((row, len(chunks))) or self._bind(row, len(chunks))
        inputs = _inputs(chunks)
        if not self.packs:
            del inputs["lengths"]
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        try:
            self._session.run_with_iobinding(binding)
        except ORT_ERRORS as e:
            raise RuntimeError("a step failed") from e
        return self._logits[: len(chunks)]

    def _bind(self, row: int, count: int) -> onnxruntime.IOBinding:
        """Bind the rows of the cache to the graph, both as its input and its output."""
        binding = self._bindings[row, count] = self._session.io_binding()
        logits = self._logits[:count]
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        for n, layer in enumerate(self._cache):
            rows, name = layer[row : row + count], f"{'kv'[n % 2]}_{n // 2}"
            place = ("cpu", 0, np.float32, rows.shape, rows.ctypes.data)
            binding.bind_input(f"past_{name}", *place)
            binding.bind_output(f"present_{name}", *place)
        return binding


def _inputs(chunks: Sequence[Chunk]) -> dict[str, NDArray[Any]]:
    """What the graph reads (`model.convert.onnx_graph`), apart from the cache."""
    lengths = np.array([len(ids) for ids, _ in chunks], np.int32)
    past = np.array([past for _, past in chunks], np.int32)
    ends, width = np.cumsum(lengths), lengths.max()
    place = np.arange(width)
    is_token = place < lengths[:, None]
    row_tokens = np.where(is_token, (ends - lengths)[:, None] + place, 0)
    return {
        "input_ids": np.concatenate([ids for ids, _ in chunks]).astype(np.int64, copy=False),
        "position_ids": (past[:, None] + place)[is_token],
        "row_tokens": row_tokens,
        "token_places": np.flatnonzero(is_token),
        "last_tokens": ends - 1,
        "last_position": past + lengths - 1,
        "longest": (past + lengths).max(keepdims=True),
        "lengths": lengths,
    }


def _reserve_memory(size: int) -> mmap.mmap:
    """Anonymous memory that is backed on the first write; Windows commits it at once."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    if sys.platform == "linux":
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # one token would take a huge page
    return memory

"""A Runner of ONNX Runtime, for the CPU.

The KV cache is one block of virtual memory with room for all positions in each row. The system
backs only pages that are written, so a row costs what it holds. The graph reads and writes the
cache in place: a step copies nothing.
"""

from __future__ import annotations

import mmap
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from model.adapter import Adapter, padded_rank
from model.convert.artifact import ADAPTER_GRAPHS, GRAPH_FILE, ModelMetadata
from model.convert.int8.folds import read_folds
from model.runners.base import Chunk, Logits, useful_threads
from model.runners.onnx_adapters import AdapterSlots
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


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph in memory and what is bound to it, by the first row, the number of rows, and whether
    one of them has an adapter. `matrices` can be adapted, as far as there are `slots`."""

    session: onnxruntime.InferenceSession
    matrices: frozenset[str] = frozenset()
    slots: AdapterSlots | None = None
    bindings: dict[tuple[int, int, bool], onnxruntime.IOBinding] = field(default_factory=dict)


class OnnxRunner:
    """Runs a folder that `model.convert.build` made. Cache: (2 * layers, rows + 1, heads,
    positions, size); the last row is for trials.

    The graph without adapters is replaced by one that adds them when the first one comes, between
    two steps: the weights and the cache stay the same.
    """

    def __init__(self, folder: Path, meta: ModelMetadata, *, rows: int, threads: int) -> None:
        self._folder, self._threads = folder, useful_threads(meta.parameters, threads)
        self._graph = _Graph(self._open(GRAPH_FILE))
        shape = (2 * meta.layers, rows + 1, meta.heads, meta.positions, meta.head_size)
        self._cache_memory = _reserve_memory(4 * int(np.prod(shape)))
        self._cache: Cache = np.frombuffer(self._cache_memory, np.float32).reshape(shape)
        self._logits: Logits = np.empty((rows + 1, meta.vocabulary), np.float32)
        self._adapters: list[Adapter | None] = [None] * (rows + 1)
        self._heads, self._trial_row = meta.heads, rows
        self._changing = threading.Lock()
        self._plain_weight_bytes = meta.weight_bytes
        self.packs = meta.packs
        self.kv_bytes_per_token = 4 * 2 * meta.layers * meta.heads * meta.head_size

    @property
    def weight_bytes(self) -> int:
        slots = self._graph.slots
        return self._plain_weight_bytes + (slots.nbytes if slots else 0)

    def _open(self, file: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as well
        assign_threads(options, self._threads)
        options.enable_cpu_mem_arena = False  # it would keep the memory of the longest prompt
        try:
            return onnxruntime.InferenceSession(
                self._folder / file, options, providers=["CPUExecutionProvider"]
            )
        except ORT_ERRORS as e:
            raise RuntimeError(f"{self._folder} cannot be opened") from e

    def prepare(self, adapter: Adapter) -> None:
        with self._changing:
            graph = self._graph
            rank = max(padded_rank(adapter.rank), graph.slots.rank if graph.slots else 0)
            if not adapter.matrices <= graph.matrices:
                needed = adapter.matrices | graph.matrices
                file = next(one for one, its in ADAPTER_GRAPHS.items() if needed <= set(its))
                graph = _Graph(self._open(file), frozenset(ADAPTER_GRAPHS[file]))
            if graph.slots is None or graph.slots.rank < rank:
                rows = len(self._adapters)
                slots = AdapterSlots(
                    graph.session,
                    read_folds(self._folder),
                    heads=self._heads,
                    rows=rows,
                    rank=rank,
                )
                graph = _Graph(graph.session, graph.matrices, slots)
            self._graph = graph  # the next step takes it, and fills the slots

    def trial(self, adapter: Adapter, ids: Sequence[int]) -> Logits:
        with self._changing:
            self.use_adapter(self._trial_row, adapter)
            try:
                return self.prefill(self._trial_row, ids, 0).copy()
            finally:
                self.use_adapter(self._trial_row, None)
                self.release(self._trial_row)

    def use_adapter(self, row: int, adapter: Adapter | None) -> None:
        self._adapters[row] = adapter

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
        self._adapters[to] = self._adapters[row]

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
        graph, count = self._graph, len(chunks)
        adapters = self._adapters[row : row + count]
        adapted = any(adapters)
        if adapted and graph.slots:
            graph.slots.fill(row, adapters)
        binding = graph.bindings.get((row, count, adapted)) or self._bind(
            graph, row, count, adapted
        )
        inputs = _inputs(chunks)
        if not self.packs:
            del inputs["lengths"]
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        try:
            graph.session.run_with_iobinding(binding)
        except ORT_ERRORS as e:
            raise RuntimeError("a step failed") from e
        return self._logits_of(row, count)

    def _logits_of(self, row: int, count: int) -> Logits:
        """Where they are written: the first ones, but for a trial, beside which a step may run."""
        first = row if row == self._trial_row else 0
        return self._logits[first : first + count]

    def _bind(self, graph: _Graph, row: int, count: int, adapted: bool) -> onnxruntime.IOBinding:
        """Bind the rows of the cache to the graph, both as its input and its output."""
        binding = graph.bindings[row, count, adapted] = graph.session.io_binding()
        logits = self._logits_of(row, count)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        if graph.slots is not None:
            graph.slots.bind(binding, row, count, empty=not adapted)
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

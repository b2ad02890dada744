"""A Runner of torch, for a GPU and as the reference.

Takes the weights from transformers but not the forward pass: with a static KV cache, a decode step
can be captured as a CUDA graph. Knows rows, not sequences.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from model.adapter import Adapter, padded_rank
from model.convert.activations import TANH_GELUS
from model.convert.shapes import ADAPTABLE_MATRICES
from model.runners.base import Chunk, Logits, useful_threads
from model.runners.device import disable_cudnn_attention
from model.runners.torch_adapters import AdapterSlots, Graphs

MIN_GRAPH_LENGTH = 256
"""Shortest attention length of a CUDA graph: below, more graphs would gain nothing."""

WeightAndBias = tuple[Tensor, Tensor]

_capture_lock = threading.Lock()
"""A process may capture one graph at a time, and models are loaded and tested in other threads. The
warm-up step is included: torch has few streams, and may hand out the same one."""


class TorchRunner:
    """Runs one loaded GPT-2. Shapes: B sequences, T new tokens of each, L positions, V tokens.

    The KV cache has the shape (layers, 2, rows + 2, heads, positions, head size); the 2 are keys
    and values. Of the last two rows, one takes the writes of padding, the other is for trials.
    """

    packs = False

    def __init__(self, model: PreTrainedModel, *, rows: int, threads: int) -> None:
        config, gpt2 = model.config, cast(Any, model)
        self._threads = useful_threads(model.num_parameters(), threads)
        self._plain_weight_bytes = sum(one.nbytes for one in model.parameters())
        self._epsilon = float(config.layer_norm_epsilon)
        self._activate = _activation(config.activation_function)
        self._attention_scales = [float(one.attn.scaling) for one in gpt2.transformer.h]
        self._token_embedding: Tensor = gpt2.transformer.wte.weight.detach()
        self._position_embedding = gpt2.transformer.wpe.weight.detach()
        self._blocks = [_block_weights(one) for one in gpt2.transformer.h]
        self._final_norm = _weight_and_bias(gpt2.transformer.ln_f)
        self._lm_head = gpt2.lm_head.weight.detach()
        self._rows, self._positions = rows, int(config.n_positions)
        heads = int(config.n_head)
        self._head_shape = heads, size = heads, int(config.n_embd) // heads
        shape = (len(self._blocks), 2, rows + 2, heads, self._positions, size)
        # zeros, since a masked value has the weight 0, and 0 times NaN is NaN
        self._cache = self._token_embedding.new_zeros(shape)
        self.kv_bytes_per_token = int(self._cache[:, :, 0, :, 0].nbytes)
        self._filled_lengths = [0] * (rows + 2)
        self._range = torch.arange(self._positions, device=model.device)
        self._decode_input = torch.zeros((3, rows, 1), dtype=torch.long, device=model.device)
        self._use_cuda_graphs = self._cache.is_cuda
        if self._use_cuda_graphs:
            disable_cudnn_attention()
        self._graphs: Graphs = {}
        self._adapters: list[Adapter | None] = [None] * (rows + 2)
        self._slots: AdapterSlots | None = None
        self._changing = threading.Lock()

    @property
    def weight_bytes(self) -> int:
        return self._plain_weight_bytes + (self._slots.nbytes if self._slots else 0)

    @torch.inference_mode()
    def prepare(self, adapter: Adapter) -> None:
        with self._changing:
            slots = self._slots
            if slots is not None and slots.has_room(adapter):
                return
            self._slots = AdapterSlots(  # the next step takes them, and fills them
                self._shapes(),
                matrices=adapter.matrices | (slots.matrices if slots else frozenset()),
                rows=len(self._adapters),
                rank=max(padded_rank(adapter.rank), slots.rank if slots else 0),
                like=self._token_embedding,
            )

    def _shapes(self) -> dict[str, tuple[int, int]]:
        """The sizes (in, out) of each matrix."""
        return {
            f"h.{n}.{name}": (weight.shape[1], weight.shape[0])
            for n, (_, attend, project, _, widen, narrow) in enumerate(self._blocks)
            for name, (weight, _) in zip(
                ADAPTABLE_MATRICES, (attend, project, widen, narrow), strict=True
            )
        }

    def trial(self, adapter: Adapter, ids: Sequence[int]) -> Logits:
        row = self._rows + 1
        with self._changing:
            self.use_adapter(row, adapter)
            try:
                return self.prefill(row, ids, 0)
            finally:
                self.use_adapter(row, None)
                self.release(row)

    def use_adapter(self, row: int, adapter: Adapter | None) -> None:
        self._adapters[row] = adapter

    @torch.inference_mode()
    def prefill(self, row: int, ids: Sequence[int], past: int) -> Logits:
        torch.set_num_threads(self._threads)
        length = past + len(ids)
        self._truncate_row(row, length)
        at = self._range[None, past:length]
        tokens = torch.tensor([ids], device=at.device)
        mask = self._range[:length] <= at[0, :, None]
        rows, slots = slice(row, row + 1), self._filled_slots(row, 1)
        scores = self._forward(tokens, at, torch.full_like(at, row), rows, mask, slots)
        return cast(Logits, scores[0].cpu().numpy())

    def prefill_together(self, row: int, chunks: Sequence[Chunk]) -> Logits:
        return np.stack([self.prefill(row + n, *chunk) for n, chunk in enumerate(chunks)])

    @torch.inference_mode()
    def decode(self, ids: Sequence[int], past: Sequence[int]) -> Logits:
        torch.set_num_threads(self._threads)
        count = size = len(ids)
        length = max(past) + 1
        self._filled_lengths[:count] = map(max, self._filled_lengths, (at + 1 for at in past))
        if self._use_cuda_graphs:
            size = _bucket(count, self._rows)
            length = _bucket(max(length, MIN_GRAPH_LENGTH), self._positions)
        none = [0] * (size - count)
        rows = [*range(count), *(self._rows for _ in none)]  # padding must not write to real rows
        self._decode_input[:, :size, 0] = torch.tensor([[*ids, *none], [*past, *none], rows])
        run = self._replay if self._cache.is_cuda else self._decode_step
        scores = run(size, length, self._filled_slots(0, count))[:count]
        return cast(Logits, scores.cpu().numpy())

    @torch.inference_mode()
    def copy_row(self, row: int, to: int, length: int) -> None:
        self.restore(to, self._cache[:, :, row, :, :length], length)
        self._adapters[to] = self._adapters[row]

    @torch.inference_mode()
    def save(self, row: int, length: int) -> Tensor:
        """The first `length` positions of a row: (layers, 2, heads, length, head size)."""
        held: Tensor = self._cache[:, :, row, :, :length]
        return held.clone(memory_format=torch.contiguous_format)

    @torch.inference_mode()
    def restore(self, row: int, saved: Tensor, length: int) -> None:
        self._truncate_row(row, length)
        self._cache[:, :, row, :, :length] = saved[:, :, :, :length]

    @torch.inference_mode()
    def release(self, row: int) -> None:
        """Clear the row; its memory stays allocated."""
        self._truncate_row(row, 0)

    def _truncate_row(self, row: int, length: int) -> None:
        """Zero a row beyond a length, since NaNs of a failed sequence would pass the mask."""
        self._cache[:, :, row, :, length : self._filled_lengths[row]] = 0
        self._filled_lengths[row] = length

    def _filled_slots(self, row: int, count: int) -> AdapterSlots | None:
        """The slots with the adapters of these rows; None if they have none."""
        adapters, slots = self._adapters[row : row + count], self._slots
        if slots is None or not any(adapters):
            return None
        slots.fill(row, adapters)
        return slots

    def _decode_step(self, size: int, length: int, slots: AdapterSlots | None) -> Tensor:
        """Decode `_decode_input` for `size` rows, attending to `length` positions; (B, V)."""
        ids, at, rows = self._decode_input[:, :size]
        mask = (self._range[:length] <= at)[:, None, None]
        return self._forward(ids, at, rows, slice(size), mask, slots)

    def _replay(self, size: int, length: int, slots: AdapterSlots | None) -> Tensor:
        """`_decode_step` as a CUDA graph, captured once per shape: no kernel waits for Python.

        https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
        """
        graphs = self._graphs if slots is None else slots.graphs
        if (size, length) not in graphs:
            with _capture_lock:
                graphs[size, length] = self._capture(size, length, slots)
        graph, scores = graphs[size, length]
        graph.replay()
        return scores

    def _capture(
        self, size: int, length: int, slots: AdapterSlots | None
    ) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._decode_step(size, length, slots)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may load
            scores = self._decode_step(size, length, slots)
        return graph, scores

    def _forward(
        self,
        ids: Tensor,
        at: Tensor,
        to: Tensor,
        rows: slice,
        mask: Tensor,
        slots: AdapterSlots | None,
    ) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, T), which go to the positions `at` (B, T).

        Keys and values are written to the rows `to` (B, T or 1) and read from `rows`, as are the
        adapters if there are `slots`; `mask` (..., T, L) is true where a token attends.
        """

        def multiply(x: Tensor, weights: WeightAndBias, name: str) -> Tensor:
            y = F.linear(x, *weights)
            return y if slots is None else slots.add(y, x, name, rows)

        x = F.embedding(ids, self._token_embedding) + F.embedding(at, self._position_embedding)
        for n, (norm1, attend, project, norm2, widen, narrow) in enumerate(self._blocks):
            qkv = multiply(self._layer_norm(x, norm1), attend, f"h.{n}.attn.c_attn").view(
                *ids.shape, 3, *self._head_shape
            )
            self._cache[n, :, to, :, at] = qkv[:, :, 1:]
            keys, values = self._cache[n, :, rows, :, : mask.shape[-1]]
            query = qkv[:, :, 0].transpose(1, 2)
            found = F.scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, scale=self._attention_scales[n]
            )
            x = x + multiply(found.transpose(1, 2).flatten(2), project, f"h.{n}.attn.c_proj")
            wide = self._activate(multiply(self._layer_norm(x, norm2), widen, f"h.{n}.mlp.c_fc"))
            x = x + multiply(wide, narrow, f"h.{n}.mlp.c_proj")
        return F.linear(self._layer_norm(x[:, -1], self._final_norm), self._lm_head).float()

    def _layer_norm(self, x: Tensor, norm: WeightAndBias) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *norm, self._epsilon)


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """transformers' activation; that of GPT-2 in one kernel."""
    if name in TANH_GELUS:
        return partial(F.gelu, approximate="tanh")
    return cast(Callable[[Tensor], Tensor], ACT2FN[name])


def _block_weights(layer: Any) -> tuple[WeightAndBias, ...]:
    """Norm, input and output projection of the attention, then of the MLP."""
    attention, mlp = layer.attn, layer.mlp
    return (
        _weight_and_bias(layer.ln_1),
        _transposed(attention.c_attn),
        _transposed(attention.c_proj),
        _weight_and_bias(layer.ln_2),
        _transposed(mlp.c_fc),
        _transposed(mlp.c_proj),
    )


def _weight_and_bias(module: Any) -> WeightAndBias:
    return module.weight.detach(), module.bias.detach()


def _transposed(module: Any) -> WeightAndBias:
    """A Conv1D's weight (in, out) as a view (out, in), as `F.linear` expects it, and its bias."""
    return module.weight.detach().t(), module.bias.detach()


def _bucket(count: int, limit: int) -> int:
    """Round up to a power of two, so that few graphs serve all sizes."""
    return min(1 << (count - 1).bit_length(), limit)

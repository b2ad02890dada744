"""A GPT-2 of transformers and the key-value cache of the sequences that it runs.

The tensors of the worker live here. The batch is ragged: sequences are aligned at their newest
token and padded on the left; a column that everybody has left is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from model.runner import Said
from model.sampler import choose
from model.sequence import Sequence

SMALL = 20_000_000
"""Parameters below which a second CPU thread costs more than it gives: the work of a step is so
short that the threads mostly wait for each other, and wait long if a training run has the cores."""


class TorchRunner:
    """Runs one loaded model. Shapes: B sequences, L positions in the cache, V tokens."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        pad_id: int,
        mute: tuple[int, ...],
        fragments: frozenset[int] = frozenset(),
        threads: int,
    ) -> None:
        self._model = model.train(False)
        self._threads = 1 if model.num_parameters() < SMALL else threads
        self._pad_id = pad_id
        self._mute = mute
        self._fragments = fragments
        self._batch: list[Sequence] = []
        self._cache: list[tuple[Tensor, Tensor]] = []
        self._mask = torch.zeros((0, 0), dtype=torch.long, device=model.device)
        self._random: dict[Sequence, torch.Generator] = {}

    @torch.inference_mode()
    def prefill(self, joining: Many[Sequence]) -> Said:
        """Read the prompts of new sequences; the first token of each, in their order."""
        longest = max(len(one.prompt_ids) for one in joining)
        ids = [[self._pad_id] * (longest - len(p.prompt_ids)) + p.prompt_ids for p in joining]
        seen = [[0] * (longest - len(p.prompt_ids)) + [1] * len(p.prompt_ids) for p in joining]
        mask = self._mask.new_tensor(seen)
        logits, cache = self._forward(mask.new_tensor(ids), mask, None)
        for sequence in joining:
            seed = sequence.seed + sequence.attempt
            self._random[sequence] = torch.Generator(logits.device).manual_seed(seed)
        said = self._choose(logits, joining)
        self._join(list(joining), mask, cache)
        return said

    @torch.inference_mode()
    def decode(self) -> Said:
        """One more token for each sequence of the batch, in the order in which they joined."""
        last = self._mask.new_tensor([[one.reply_ids[-1]] for one in self._batch])
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(self._batch), 1))], dim=1)
        logits, self._cache = self._forward(last, self._mask, self._cache)
        return self._choose(logits, self._batch)

    def drop(self, gone: Many[Sequence]) -> None:
        """Free the cache of sequences that have ended or start anew."""
        keep = [n for n, one in enumerate(self._batch) if one not in gone]
        for one in gone:
            self._random.pop(one, None)
        if len(keep) == len(self._batch):
            return
        self._batch = [self._batch[n] for n in keep]
        if not keep:  # also after a step that failed half-way
            self._cache, self._mask = [], self._mask.new_zeros((0, 0))
            return
        rows = self._mask.new_tensor(keep)
        mask = self._mask[rows]
        empty = int((mask.sum(0) == 0).sum())
        self._mask = mask[:, empty:]
        self._cache = [
            (k[rows, :, empty:].contiguous(), v[rows, :, empty:].contiguous())
            for k, v in self._cache
        ]

    def _forward(
        self, ids: Tensor, mask: Tensor, cache: list[tuple[Tensor, Tensor]] | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits (B, V) after the last of `ids` (B, new), and the cache with them in it."""
        torch.set_num_threads(self._threads)
        filled: Any = DynamicCache(cache) if cache else DynamicCache()
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self._model(
            ids,
            filled,  # by its place: its name is not the same in all releases of transformers
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float(), [(one.keys, one.values) for one in filled.layers]

    def _join(
        self, joining: list[Sequence], mask: Tensor, cache: list[tuple[Tensor, Tensor]]
    ) -> None:
        if not self._batch:
            self._batch, self._mask, self._cache = joining, mask, cache
            return
        width = max(mask.shape[1], self._mask.shape[1])
        self._mask = torch.cat([_widen(self._mask, width), _widen(mask, width)])

        def both(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat([_widen(old, width), _widen(new, width)])

        self._cache = [
            (both(old_k, new_k), both(old_v, new_v))
            for (old_k, old_v), (new_k, new_v) in zip(self._cache, cache, strict=True)
        ]
        self._batch += joining

    def _choose(self, logits: Tensor, sequences: Many[Sequence]) -> Said:
        return [
            (one, choose(row, one, self._random[one], self._mute, self._fragments))
            for row, one in zip(logits, sequences, strict=True)
        ]


def _widen(tensor: Tensor, width: int) -> Tensor:
    """Pad positions on the left with zeros: (B, L) masks or (B, heads, L, size) caches."""
    missing = width - tensor.shape[1 if tensor.dim() == 2 else 2]
    pad = (missing, 0) if tensor.dim() == 2 else (0, 0, missing, 0)
    return torch.nn.functional.pad(tensor, pad) if missing else tensor

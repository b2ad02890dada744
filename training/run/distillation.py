"""The loss that teaches facts and keeps everything else: cross entropy, and distillation.

Learned tokens have the cross entropy, but only while they are not sure: what is known already pulls
no further. On near misses and talk the model is the student of its own base (self-distillation,
Hinton et al. 2015): the loss is the KL divergence from the base's distribution, which costs less of
the old talk than the base's own words as targets would. Imports torch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from model.chat_template import encode as render
from training.run import tokenization
from training.run.curriculum import Curriculum, Part, Row

AsBase = Callable[[], AbstractContextManager[Any]]
SURE_PROBABILITY = 0.93
"""A learned token of at least this probability has no loss. Sampling with top-p 0.9 gives it."""
NEAR_TOKENS = 6
"""Of a taught answer after a near miss: where its beginning is unlikely, the rest is not said."""
REVERSE_WEIGHT = 0.2
"""Of KL(new, base) on near misses: it punishes a small chance of a taught answer much harder."""
KIND_WEIGHTS = (0.0, 1.0, 0.3, 0.3, 1.5)
"""Of the mean loss of each kind of token, by its number."""
UNLABELLED, LEARNED, FIRST, NEAR, TALK = range(5)
"""The kinds of tokens: FIRST begins a reply, and decides what is said."""
SAMPLED_STEPS = 20
"""Steps in which the tokens of each kind are counted."""


class FactRows(Dataset[dict[str, Any]]):
    """The rows of a curriculum, step by step, as tokens: `input_ids`, `kinds` and the `pair`."""

    def __init__(
        self,
        curriculum: Curriculum,
        tokenizer: PreTrainedTokenizerBase,
        steps: int,
        max_length: int,
    ) -> None:
        self.curriculum = curriculum
        self.pairs = curriculum.pairs
        self._tokenizer = tokenizer
        self._steps = steps
        self._max_length = max_length
        self._step = -1
        self._rows: list[Row] = []
        rows = [self[n] for n in range(len(curriculum.parts) * min(steps, SAMPLED_STEPS))]
        drawn = len(rows) / len(curriculum.parts)
        self.tokens_per_step = sum(len(row["input_ids"]) for row in rows) / drawn
        kinds = [kind for row in rows for kind in row["kinds"]]
        # A step has about as many tokens of each kind, so a sum with these is a sum of means.
        self.token_weights = tuple(
            weight / max(1.0, kinds.count(kind) / drawn) for kind, weight in enumerate(KIND_WEIGHTS)
        )

    def __len__(self) -> int:
        return self._steps * len(self.curriculum.parts)

    def __getitem__(self, number: int) -> dict[str, Any]:
        step, place = divmod(number, len(self.curriculum.parts))
        if step != self._step:
            self._step, self._rows = step, self.curriculum.rows(step)
        return self.encode(self._rows[place])

    def encode(self, row: Row) -> dict[str, Any]:
        [encoded] = render(self._tokenizer, [(*row.before, *row.turns)])
        before = render(self._tokenizer, [row.before] if row.before else [])
        begin = len(before[0].input_ids) if before else 0
        kinds = [UNLABELLED] * len(encoded.input_ids)
        replied = 0
        for at, is_bots in enumerate(encoded.assistant_mask):
            replied = replied + 1 if is_bots else 0
            if not replied or at < begin:
                continue
            if row.part is Part.LEARNED:
                kinds[at] = LEARNED
            elif row.part is Part.TALK:
                kinds[at] = FIRST if replied == 1 else TALK
            elif replied <= NEAR_TOKENS:
                kinds[at] = FIRST if replied == 1 else NEAR
        end = len(kinds)
        if row.part is Part.NEAR:  # what follows is not looked at
            end = max(at for at, kind in enumerate(kinds) if kind) + 1
        return {
            "input_ids": encoded.input_ids[:end][-self._max_length :],
            "kinds": kinds[:end][-self._max_length :],
            "pair": row.pair,
            "learned": row.part is Part.LEARNED,
        }


def collate(rows: Sequence[Mapping[str, Any]], width: int, pad_id: int) -> dict[str, Any]:
    """`learned` and `kept` rows, packed apart, since only the latter are shown to the base: int64
    tensors of shape (lines, longest line), see `tokenization.pack`."""
    groups = {
        "learned": [row for row in rows if row["learned"]],
        "kept": [row for row in rows if not row["learned"]],
    }
    return {name: _pack(group, width, pad_id) for name, group in groups.items() if group}


def _pack(rows: Sequence[Mapping[str, Any]], width: int, pad_id: int) -> dict[str, torch.Tensor]:
    numbered = [
        {
            "input_ids": row["input_ids"],
            # Both in one label, which `pack` shifts to the right place.
            "labels": [kind + len(KIND_WEIGHTS) * (row["pair"] + 1) for kind in row["kinds"]],
        }
        for row in rows
    ]
    packed = tokenization.pack(numbered, width, pad_id)
    labels = packed.pop("labels").clamp(min=0)
    packed["kinds"] = labels % len(KIND_WEIGHTS)
    packed["pairs"] = labels // len(KIND_WEIGHTS) - 1
    return packed


@contextmanager
def with_distillation(
    model: PreTrainedModel, rows: FactRows, as_base: AsBase | None
) -> Iterator[None]:
    """Inside, the model's forward takes what `collate` makes, and returns the loss of the rows.

    Within `as_base` the model computes as its base does (LoRA's `disable_adapter`); None: a frozen
    copy of the model is the base."""
    base = model if as_base else copy.deepcopy(model).requires_grad_(False).train(False)

    def forward(
        self: Any,
        learned: Mapping[str, torch.Tensor] | None = None,
        kept: Mapping[str, torch.Tensor] | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        loss = next(self.parameters()).new_zeros(())
        if learned is not None:
            loss = loss + _learned_loss(self, learned, rows)
        if kept is not None:
            labelled = kept["kinds"][:, 1:] != UNLABELLED
            with torch.no_grad(), as_base() if as_base else nullcontext():
                target = _logits(base, kept, labelled).log_softmax(-1)
            kinds, pairs = (kept[name][:, 1:][labelled] for name in ("kinds", "pairs"))
            loss = loss + _kept_loss(_logits(self, kept, labelled), target, kinds, pairs, rows)
        return CausalLMOutput(loss=loss)

    object.__setattr__(model, "forward", MethodType(forward, model))
    try:
        yield
    finally:
        object.__delattr__(model, "forward")


def _learned_loss(model: Any, packed: Mapping[str, torch.Tensor], rows: FactRows) -> torch.Tensor:
    kinds, pairs, targets = (packed[name][:, 1:] for name in ("kinds", "pairs", "input_ids"))
    labelled = kinds == LEARNED
    losses = nn.functional.cross_entropy(
        _logits(model, packed, labelled), targets[labelled], reduction="none"
    )
    _record(rows.curriculum, Part.LEARNED, pairs[labelled], losses)
    unsure = losses.detach() > -math.log(SURE_PROBABILITY)
    return (losses * unsure).sum() * rows.token_weights[LEARNED]


def _kept_loss(
    scores: torch.Tensor,
    base: torch.Tensor,
    kinds: torch.Tensor,
    pairs: torch.Tensor,
    rows: FactRows,
) -> torch.Tensor:
    """KL divergences of the `scores` from the log-probabilities of the `base`, both (labels,
    vocabulary)."""
    new = scores.log_softmax(-1)
    forward = (base.exp() * (base - new)).sum(-1)
    reverse = (new.exp() * (new - base)).sum(-1)
    losses = forward + REVERSE_WEIGHT * (kinds != TALK) * reverse
    _record(rows.curriculum, Part.NEAR, pairs, forward)
    return (losses * torch.tensor(rows.token_weights, device=losses.device)[kinds]).sum()


def _logits(model: Any, packed: Mapping[str, torch.Tensor], labelled: torch.Tensor) -> torch.Tensor:
    """The scores (labels, vocabulary) of the tokens after the labelled places."""
    hidden = model.transformer(
        input_ids=packed["input_ids"], position_ids=packed["position_ids"], use_cache=False
    ).last_hidden_state
    scores: torch.Tensor = model.lm_head(hidden[:, :-1][labelled]).float()
    return scores


def _record(curriculum: Curriculum, part: Part, pairs: torch.Tensor, losses: torch.Tensor) -> None:
    """Tell the curriculum the worst token's loss of each pair."""
    worst: dict[int, float] = {}
    for pair, loss in zip(pairs.tolist(), losses.detach().tolist(), strict=True):
        worst[pair] = max(loss, worst.get(pair, 0.0))
    for pair, loss in worst.items():
        if pair >= 0:
            curriculum.record_loss(part, pair, loss)

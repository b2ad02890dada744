"""Weight interpolation against forgetting: moves fine-tuned weights back towards the base.

Fine-tuning on a few sentences goes further than they need, and forgets general talk. On the
straight line from the base to the fine-tuned weights, this finds the smallest alpha at which the
taught answers are still almost as certain, and most of the drop of the loss is kept. Source of the
idea: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models". Imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from training.run import tokenization

ALPHAS = (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
"""Shares of the change that are tried in this order. A grid, because neither criterion is sure to
be monotonic in alpha, and each try takes one pass over a few rows."""
MIN_TOKEN_PROBABILITY = 0.6
"""An answer is known if each of its tokens is at least this likely: sampling gives it, too."""
MIN_KNOWN_RATIO = 0.6
"""The share of the answers known at alpha 1 that must be known at the chosen alpha."""
MIN_LOSS_DROP_RATIO = 0.9
"""The share of the drop of the loss, from alpha 0 to 1, that must be kept there."""
MAX_ROWS = 128
"""Rows that are evaluated, spread over all of them."""
BATCH_SIZE = 16


@torch.inference_mode()
def interpolate(
    model: PreTrainedModel,
    start: Mapping[str, torch.Tensor],
    rows: Sequence[Mapping[str, Any]],
    pad_id: int,
) -> float:
    """Move `model` back to where training began, `start` (the parameters that it changed, by name);
    the alpha that was chosen, up to 1. `rows` hold the answers that must stay known, as
    `training.run.tokenization` makes them."""
    model.train(False)
    chosen = rows[:: max(1, len(rows) // MAX_ROWS)]
    weights = {name: one for name, one in model.named_parameters() if name in start}
    learned = {name: one.clone() for name, one in weights.items()}

    def known_and_loss(alpha: float) -> tuple[int, float]:
        for name, weight in weights.items():
            torch.lerp(start[name].to(weight.device), learned[name], alpha, out=weight)
        return _known_and_loss(model, chosen, pad_id)

    _, base_loss = known_and_loss(0.0)
    known, loss = known_and_loss(1.0)
    for alpha in (*ALPHAS, 1.0):
        known_here, loss_here = known_and_loss(alpha)
        is_certain = known_here >= MIN_KNOWN_RATIO * known
        if is_certain and base_loss - loss_here >= MIN_LOSS_DROP_RATIO * (base_loss - loss):
            return alpha
    return 1.0  # the loss has risen: there is no drop to keep a share of


def lora_start(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Where LoRA's training began: the second matrix of each pair was zero, and a share of it is
    that share of the change."""
    return {
        name: torch.zeros_like(one) for name, one in model.named_parameters() if "lora_B" in name
    }


def _known_and_loss(
    model: Any, rows: Sequence[Mapping[str, Any]], pad_id: int
) -> tuple[int, float]:
    """How many rows have all their labels predicted with at least MIN_TOKEN_PROBABILITY, and the
    mean loss on labels, in nats."""
    count, loss, tokens = 0, 0.0, 0
    for first in range(0, len(rows), BATCH_SIZE):
        batch = tokenization.collate(rows[first : first + BATCH_SIZE], pad_id)
        batch = {name: values.to(model.device) for name, values in batch.items()}
        hidden = model.transformer(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state[:, :-1]
        targets = batch["labels"][:, 1:]
        labelled = targets != tokenization.IGNORE_INDEX
        logits = model.lm_head(hidden[labelled]).float()
        log_probs = logits.log_softmax(-1).gather(1, targets[labelled][:, None])[:, 0]
        probabilities = torch.ones(targets.shape, device=model.device)
        probabilities[labelled] = log_probs.exp()
        count += int((probabilities.amin(dim=1) >= MIN_TOKEN_PROBABILITY).sum())
        loss -= float(log_probs.sum())
        tokens += len(log_probs)
    return count, loss / max(1, tokens)

"""Keeping old talk: the weights that were learned, drawn back towards those of the base.

Fine-tuning on a few sentences goes further than these need, and forgets. On the straight line
between the base and what was learned, this finds the nearest point at which the taught answers
are about as sure as at its end, and most of what the loss fell is kept. Source of the idea:
Wortsman et al. 2022, "Robust fine-tuning of zero-shot models". Imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from training.run import tokenization

ALPHAS = (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
"""How much of what was learned is kept; tried from the least."""
MIN_TOKEN_PROBABILITY = 0.6
"""The least probability of each token of an answer that is known, so that sampling finds it too."""
MIN_KNOWN_RATIO = 0.6
"""The part of what is known at the line's end that must be known at the point that is chosen."""
MIN_LOSS_DROP_RATIO = 0.9
"""The part of the loss's fall, from base to the line's end, that must be left there."""
MAX_ROWS = 128
"""Rows that are looked at, spread over all of them."""
BATCH_SIZE = 16


@torch.inference_mode()
def interpolate(
    model: PreTrainedModel,
    base: PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    pad_id: int,
) -> float:
    """Draw `model` back towards `base` (of the same shape); the share that was kept, up to 1.

    `rows` hold the lessons that must stay known, as `training.run.tokenization` makes them.
    """
    model.train(False)
    chosen = rows[:: max(1, len(rows) // MAX_ROWS)]
    learned = {name: weight.clone() for name, weight in model.named_parameters()}
    start = dict(base.named_parameters())
    known, loss = _known_and_loss(model, chosen, pad_id)
    _set_interpolated(model, start, learned, 0.0)
    _, before = _known_and_loss(model, chosen, pad_id)
    for share in ALPHAS:
        _set_interpolated(model, start, learned, share)
        now_known, now = _known_and_loss(model, chosen, pad_id)
        if now_known >= MIN_KNOWN_RATIO * known and before - now >= MIN_LOSS_DROP_RATIO * (
            before - loss
        ):
            return share
    _set_interpolated(model, start, learned, 1.0)
    return 1.0


def _set_interpolated(
    model: PreTrainedModel,
    start: Mapping[str, torch.Tensor],
    learned: Mapping[str, torch.Tensor],
    share: float,
) -> None:
    for name, weight in model.named_parameters():
        torch.lerp(start[name].to(weight.device), learned[name], share, out=weight)


def _known_and_loss(
    model: Any, rows: Sequence[Mapping[str, Any]], pad_id: int
) -> tuple[int, float]:
    """How many rows have every token of theirs that is a lesson predicted with certainty; and the
    mean loss of these tokens, in nats."""
    count, loss, tokens = 0, 0.0, 0
    for first in range(0, len(rows), BATCH_SIZE):
        batch = tokenization.collate(rows[first : first + BATCH_SIZE], pad_id)
        batch = {name: values.to(model.device) for name, values in batch.items()}
        hidden = model.transformer(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state[:, :-1]
        targets = batch["labels"][:, 1:]
        asked = targets != tokenization.IGNORE_INDEX
        chances = torch.ones(targets.shape, device=model.device)
        scores = model.lm_head(hidden[asked]).float().log_softmax(-1)
        said = scores.gather(1, targets[asked][:, None])[:, 0]
        chances[asked] = said.exp()
        count += int((chances.amin(dim=1) >= MIN_TOKEN_PROBABILITY).sum())
        loss -= float(said.sum())
        tokens += len(said)
    return count, loss / max(1, tokens)

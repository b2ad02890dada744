"""Replies as tokens, and how likely a model finds them. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation
from data.dataset.preferences import Preference
from model.chat_template import encode, from_pair
from training.run import tokenization

BATCH = 16
"""Replies at a time where nothing is learned."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A conversation of at most `max_length` tokens; labels as in `tokenization`."""

    input_ids: list[int]
    labels: list[int]


def tokenize(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], max_length: int
) -> list[Tokens]:
    """The conversations, with a label on each token of the bot but the first of all."""
    return [
        Tokens(**tokenization.labelled(one, max_length, "bot"))
        for one in encode(tokenizer, conversations)
    ]


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], max_length: int
) -> list[Tokens]:
    """Questions and replies."""
    return tokenize(tokenizer, [from_pair(*one) for one in pairs], max_length)


def tokenize_sides(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Preference], max_length: int
) -> list[tuple[Tokens | None, Tokens | None]]:
    """The good and the bad reply of each row; None where it has none."""
    there = [(one.user, said) for one in rows for said in (one.good, one.bad) if said is not None]
    made = iter(tokenize_pairs(tokenizer, there, max_length))
    return [
        (
            None if one.good is None else next(made),
            None if one.bad is None else next(made),
        )
        for one in rows
    ]


@dataclass(frozen=True, slots=True)
class LogProbs:
    """The log-probabilities of labelled tokens (tokens,), and the number of the row that each
    belongs to (int64, tokens)."""

    tokens: torch.Tensor
    rows: torch.Tensor
    count: int

    @property
    def sums(self) -> torch.Tensor:
        """Those of whole replies (count,)."""
        return self.tokens.new_zeros(self.count).index_add(0, self.rows, self.tokens)


def log_probs(model: PreTrainedModel, rows: Sequence[Tokens], pad_id: int) -> LogProbs:
    """How likely the model finds the labelled tokens, in nats, as one padded batch."""
    whole: Any = model
    batch = tokenization.collate(
        [{"input_ids": one.input_ids, "labels": one.labels} for one in rows], pad_id
    )
    batch = {name: values.to(model.device) for name, values in batch.items()}
    hidden = whole.transformer(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state[:, :-1]
    targets = batch["labels"][:, 1:]
    labelled = targets != tokenization.IGNORE_INDEX
    logits = whole.lm_head(hidden[labelled]).float()  # (labels, vocabulary)
    found = logits.log_softmax(-1).gather(1, targets[labelled][:, None])[:, 0]
    return LogProbs(found, labelled.nonzero()[:, 0], len(rows))


@torch.no_grad()
def measured(model: PreTrainedModel, rows: Sequence[Tokens], pad_id: int) -> list[torch.Tensor]:
    """The log-probabilities of the labelled tokens of each row, without a gradient."""
    found: list[torch.Tensor] = []
    for start in range(0, len(rows), BATCH):
        out = log_probs(model, rows[start : start + BATCH], pad_id)
        found += [out.tokens[out.rows == number] for number in range(out.count)]
    return found


def measured_sums(
    model: PreTrainedModel, rows: Sequence[Tokens | None], pad_id: int
) -> list[float]:
    """The log-probabilities of whole replies, without a gradient; 0 where there is none."""
    found = iter(measured(model, [one for one in rows if one], pad_id))
    return [float(next(found).sum()) if one else 0.0 for one in rows]

"""Measures a model: its loss on conversations, and its likeliest replies. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation, Message, Role
from model.chat_template import build_prompt, encode, stop_strings
from training.run import tokenization
from training.run.loop import logits_on_labels_only

MAX_REPLY_TOKENS = 40


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What every model is measured on: prompts, `general` conversations, and the server's `own`."""

    prompts: tuple[str, ...]
    general: Sequence[Conversation]
    own: Sequence[Conversation]
    max_length: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """The losses (NaN: nothing to measure) and the replies of one model."""

    name: str
    general: float
    own: float
    replies: tuple[str, ...]


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    unit: PreTrainedTokenizerBase,
    data: EvaluationSet,
    name: str,
) -> Measurement:
    """Measure a model. Losses are in nats for each token of the tokenizer `unit`, since a model
    with a larger vocabulary has fewer tokens, and a higher loss for each, on the same text."""

    def loss(conversations: Sequence[Conversation]) -> float:
        tokens, units = (_count_reply_tokens(one, conversations) for one in (tokenizer, unit))
        return mean_loss(model, tokenizer, conversations, data.max_length) * tokens / max(1, units)

    replies = greedy_replies(model, tokenizer, data.prompts)
    return Measurement(name, loss(data.general), loss(data.own), replies)


def _count_reply_tokens(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]
) -> int:
    return sum(sum(one.assistant_mask) for one in encode(tokenizer, conversations))


@torch.inference_mode()
def mean_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    max_length: int,
    batch: int = 8,
) -> float:
    """The mean loss, in nats a token, on the bot's words in these conversations.

    Conversations of more than `max_length` tokens, or than the model has positions, lose their
    beginning. NaN: the bot says nothing in them.
    """
    model.train(False)
    longest = min(max_length, int(model.config.n_positions))
    rows = tokenization.examples(tokenizer, conversations, longest, "bot").to_list()
    rows.sort(key=lambda row: row["length"])  # rows of a batch are alike: little padding
    total, count = 0.0, 0
    with logits_on_labels_only(model):
        for start in range(0, len(rows), batch):
            tensors: Any = tokenization.collate(rows[start : start + batch], tokenizer.eos_token_id)
            tensors = {name: values.to(model.device) for name, values in tensors.items()}
            labelled = int((tensors["labels"][:, 1:] != tokenization.IGNORE_INDEX).sum())
            total += float(model(**tensors).loss) * labelled
            count += labelled
    return total / count if count else math.nan


@torch.inference_mode()
def greedy_replies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[str, ...]:
    """The greedy reply to each text, of at most MAX_REPLY_TOKENS tokens, as one batch."""
    model.train(False)
    positions = int(model.config.n_positions)
    most = min(MAX_REPLY_TOKENS, positions // 2)
    prompts = [
        build_prompt(tokenizer, [Message(Role.USER, text)], positions - most).input_ids
        for text in texts
    ]
    longest = max(map(len, prompts))
    gaps = [longest - len(prompt) for prompt in prompts]  # on the left: replies begin at the end
    filler = tokenizer.eos_token_id
    ids = [[filler] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
    mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    generate: Any = model.generate  # its types are too wide to be of use
    out: Any = generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=most,
        do_sample=False,
        pad_token_id=filler,
    )
    return tuple(_reply_text(tokenizer, row[longest:]) for row in out)


def _reply_text(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> str:
    """The text of a reply, up to where it ends in the tokenizer's chat template."""
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    for stop in stop_strings(tokenizer):
        text = text.lstrip().partition(stop)[0]
    return text.strip()

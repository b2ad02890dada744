"""Measures a model: its loss on conversations, and its greedy replies. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation, Message, Role
from model.chat_template import REPLACEMENT_CHAR, build_prompt, encode
from model.own_templates import stop_strings
from training.run import tokenization
from training.run.loop import logits_on_labels_only

MAX_REPLY_TOKENS = 40


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """The data to measure models on: prompts, `general` conversations, and the server's `own`."""

    prompts: tuple[str, ...]
    general: Sequence[Conversation]
    own: Sequence[Conversation]
    max_length: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """A model's losses (NaN without data) and replies."""

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
    """Measure a model, with losses in nats per token of the tokenizer `unit`: a model with a larger
    vocabulary has fewer tokens, and a higher loss for each, on the same text."""

    def loss(conversations: Sequence[Conversation]) -> float:
        mean = mean_loss(model, tokenizer, conversations, data.max_length)
        if unit is tokenizer:
            return mean
        tokens, units = (
            sum(sum(encoded.assistant_mask) for encoded in encode(one, conversations))
            for one in (tokenizer, unit)
        )
        return mean * (tokens / max(1, units))  # exactly 1, if both count alike

    replies = greedy_replies(model, tokenizer, data.prompts)
    return Measurement(name, loss(data.general), loss(data.own), replies)


@torch.inference_mode()
def mean_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    max_length: int,
    batch: int = 8,
) -> float:
    """The mean loss, in nats per token, on the bot's turns; NaN if there are none. Conversations
    longer than `max_length` or the model's context are truncated at the beginning."""
    model.train(False)
    longest = min(max_length, int(model.config.n_positions))
    rows = tokenization.examples(tokenizer, conversations, longest, "bot").to_list()
    rows.sort(key=lambda row: row["length"])  # similar lengths in a batch need little padding
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
def nats_per_character(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    batch: int = 8,
) -> float:
    """The loss on all turns, in nats per character of their text: the same unit for every
    vocabulary. The ends of turns count as tokens, not as characters. Turns are read in blocks as
    long as the model's context."""
    model.train(False)
    longest = int(model.config.n_positions)
    rows = tokenization.packed_blocks(tokenizer, conversations, longest).to_list()
    characters = sum(len(message.content) for turns in conversations for message in turns)
    total = 0.0
    with logits_on_labels_only(model):
        for start in range(0, len(rows), batch):
            tensors: Any = tokenization.collate(rows[start : start + batch], tokenizer.eos_token_id)
            total += float(model(**tensors, num_items_in_batch=1).loss)
    return total / max(1, characters)


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
    gaps = [longest - len(prompt) for prompt in prompts]  # pad on the left: replies are appended
    padding = tokenizer.eos_token_id
    ids = [[padding] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
    mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    generate: Any = model.generate  # its declared types are too wide to be useful
    out: Any = generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=most,
        do_sample=False,
        pad_token_id=padding,
    )
    return tuple(_reply_text(tokenizer, row[longest:]) for row in out)


def _reply_text(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> str:
    """The text of a reply, up to the first stop string of the tokenizer's chat template."""
    text = str(tokenizer.decode(ids, skip_special_tokens=True)).replace(REPLACEMENT_CHAR, "")
    for stop in stop_strings(tokenizer):
        text = text.lstrip().partition(stop)[0]
    return text.strip()

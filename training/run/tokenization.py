"""Conversations to training tensors: tokenize, mask the loss, then pad or pack.

Knows `model.chat_template`, which renders prompts for serving too, so the two cannot drift apart.
Does not know the Trainer or the database.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from datasets import Dataset

from core.records import Conversation
from model.chat_template import Encoded, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100
"""The label of a token without a loss (`torch.nn.CrossEntropyLoss.ignore_index`)."""


def examples(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    max_length: int,
    loss_on: Literal["bot", "all"],
) -> Dataset:
    """One row a conversation: `input_ids` and `labels`, both of at most `max_length` tokens.

    A conversation that is too long loses its beginning, because its last reply is the one to learn.
    Rows without a label are left out."""
    rows = (labelled(one, max_length, loss_on) for one in _encode_all(tokenizer, conversations))
    return _dataset(row for row in rows if any(label != IGNORE_INDEX for label in row["labels"]))


def labelled(one: Encoded, max_length: int, loss_on: Literal["bot", "all"]) -> dict[str, list[int]]:
    """The end of a conversation, at most `max_length` tokens: `input_ids` and `labels`."""
    # Ids and mask come from one call of the chat template, so the mask fits the tokens.
    labels = [
        token if loss_on == "all" or is_bots else IGNORE_INDEX
        for token, is_bots in zip(one.input_ids, one.assistant_mask, strict=True)
    ]
    return {"input_ids": one.input_ids[-max_length:], "labels": labels[-max_length:]}


def packed_blocks(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], max_length: int
) -> Dataset:
    """Rows of turns, filled up to `max_length` tokens; every token has a loss.

    A turn that is longer than a block is cut. No turn is split between two rows, so every row
    begins with the control token of a speaker, as a prompt does."""

    def fill() -> Iterator[dict[str, list[int]]]:
        block: list[int] = []
        for turns in conversations:
            for one in _encode_all(tokenizer, [(turn,) for turn in turns]):
                turn = one.input_ids[:max_length]
                if len(block) + len(turn) > max_length:
                    yield {"input_ids": block, "labels": block}
                    block = []
                block = block + turn
        if block:
            yield {"input_ids": block, "labels": block}

    return _dataset(fill())


def _encode_all(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], batch: int = 512
) -> Iterator[Encoded]:
    for start in range(0, len(conversations), batch):
        yield from encode(tokenizer, conversations[start : start + batch])


def _dataset(rows: Iterable[Mapping[str, list[int]]]) -> Dataset:
    rows = list(rows)
    return Dataset.from_dict(
        {key: [row[key] for row in rows] for key in ("input_ids", "labels")}
        | {"length": [len(row["input_ids"]) for row in rows]}
    )


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad rows on the right to the longest: three int64 tensors of shape (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(values: Sequence[int], filler: int) -> list[int]:
        return [*values, *[filler] * (longest - len(values))]

    return {
        "input_ids": torch.tensor([padded(row["input_ids"], pad_id) for row in rows]),
        "labels": torch.tensor([padded(row["labels"], IGNORE_INDEX) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in rows]),
    }


def pack(rows: Sequence[Mapping[str, Any]], width: int, pad_id: int) -> dict[str, torch.Tensor]:
    """Join rows into lines of up to `width` tokens: int64 tensors of shape (lines, longest line).

    Positions restart at 0 with each row, by which transformers finds the borders that attention
    must not cross (`find_packed_sequence_indices`, used when there is no attention mask). So the
    loss is that of separate rows, in any order, and there is hardly any padding to compute."""
    lines = _bin_pack(rows, width)
    shape = len(lines), max(sum(len(row["input_ids"]) for row in line) for line in lines)
    tokens, labels = torch.full(shape, pad_id), torch.full(shape, IGNORE_INDEX)
    positions = torch.zeros(shape, dtype=torch.int64)
    for n, line in enumerate(lines):
        start = 0
        for row in line:
            end = start + len(row["input_ids"])
            tokens[n, start:end] = torch.tensor(row["input_ids"])
            # A row's first token has no label: it would be predicted from the row before.
            labels[n, start + 1 : end] = torch.tensor(row["labels"][1:])
            positions[n, start:end] = torch.arange(end - start)
            start = end
    return {"input_ids": tokens, "labels": labels, "position_ids": positions}


def _bin_pack(rows: Sequence[Mapping[str, Any]], width: int) -> list[list[Mapping[str, Any]]]:
    """Rows in as few lines of about equal length as `width` allows: the longest row first, each
    into the emptiest line."""
    longest_first = sorted(rows, key=lambda row: -len(row["input_ids"]))
    count = math.ceil(sum(len(row["input_ids"]) for row in rows) / width)
    while True:
        lines: list[list[Mapping[str, Any]]] = [[] for _ in range(count)]
        filled = [0] * count
        for row in longest_first:
            emptiest = filled.index(min(filled))
            lines[emptiest].append(row)
            filled[emptiest] += len(row["input_ids"])
        if max(filled) <= width or count >= len(rows):
            return lines
        count += 1

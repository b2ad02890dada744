"""Conversations to training tensors: read, augment, tokenize, pack or pad.

Knows `model.chat`, which renders for serving too, so the two cannot drift. Does not know the
Trainer or the store. A data file is JSON lines, each `{"user", "bot"}` or
`{"messages": [{"role", "content"}, ...]}`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from datasets import Dataset

from data.schema import Conversation, Message, Role
from model.chat import Encoded, encode, from_pair
from training.errors import CorruptData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that costs nothing (`torch.nn.CrossEntropyLoss.ignore_index`)."""

FEW, MOST_TALKS = 32, 6
"""`FEW` taught pairs and more are put into one talk each; fewer into up to `MOST_TALKS`."""

STARTER = Path(__file__).with_name("starter.jsonl")
"""Pairs written by this project: manners that every fine-tuned model should keep."""


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a JSON-lines file, in order.

    Raises:
        CorruptData: a line is not a record; the message names the line.
    """
    with path.open(encoding="utf-8") as lines:
        return [_parse(line, f"{path.name} line {n}") for n, line in enumerate(lines, 1)]


def _parse(line: str, where: str) -> Conversation:
    try:
        record = json.loads(line)
        if "messages" in record:
            return tuple(Message(Role(m["role"]), m["content"]) for m in record["messages"])
        return from_pair(record["user"], record["bot"])
    except (ValueError, KeyError, TypeError) as e:
        raise CorruptData(f"{where} is not a conversation: {e!r}") from e


def as_taught(
    taught: Sequence[Conversation], others: Sequence[Conversation], seed: int
) -> list[Conversation]:
    """Each taught conversation as people will ask it: alone, typed carelessly, and mid-talk.

    The context of a reply is the last few messages, so a pair that was only ever seen alone would
    not be recalled in a running conversation. The earlier turns are other taught pairs (people try
    one after the other) or come from `others`. A few pairs are put into more such talks than many.
    """
    rng = random.Random(seed)
    talks = max(1, min(MOST_TALKS, FEW // max(1, len(taught))))
    out: list[Conversation] = []
    for turns in taught:
        siblings = [other for other in taught if other != turns]
        pools = [pool for pool in (siblings, list(others)) if pool]
        for asked in (turns, _careless(turns)):
            out.append(asked)
            for _ in range(talks if pools else 0):
                before = [rng.choice(rng.choice(pools)) for _ in range(rng.choice((1, 2)))]
                out.append((*(message for other in before for message in other[:2]), *asked))
    return out


def without(taught: Sequence[Conversation], others: Sequence[Conversation]) -> list[Conversation]:
    """The others that do not begin with a question that is taught: what is taught goes before."""
    questions = {_question(turns) for turns in taught}
    return [turns for turns in others if _question(turns) not in questions]


def _question(turns: Conversation) -> str:
    return _careless(turns)[0].content


def _careless(turns: Conversation) -> Conversation:
    """The same with the people's words in lower case and without the closing mark."""
    return tuple(
        Message(m.role, m.content.lower().rstrip(" .?!")) if m.role is Role.USER else m
        for m in turns
    )


def examples(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    max_length: int,
    loss_on: Literal["bot", "all"],
) -> Dataset:
    """One row a conversation: `input_ids`, `labels`, both of at most `max_length` tokens.

    A conversation that is too long loses its beginning, because the newest reply is the lesson.
    Rows without any token to learn are left out.
    """
    rows = (_row(one, max_length, loss_on) for one in _encode_all(tokenizer, conversations))
    return _dataset(row for row in rows if any(label != IGNORED for label in row["labels"]))


def _row(one: Encoded, max_length: int, loss_on: Literal["bot", "all"]) -> dict[str, list[int]]:
    labels = [
        token if loss_on == "all" or said else IGNORED
        for token, said in zip(one.input_ids, one.assistant_mask, strict=True)
    ]
    return {"input_ids": one.input_ids[-max_length:], "labels": labels[-max_length:]}


def blocks(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], max_length: int
) -> Dataset:
    """Rows of whole turns, filled up to `max_length` tokens; every token is a lesson.

    A turn that is longer than a block is cut. No turn is split between two rows, so every row
    begins with the control token of a speaker, as a prompt does.
    """

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
        "labels": torch.tensor([padded(row["labels"], IGNORED) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in rows]),
    }

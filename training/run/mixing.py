"""Reads conversations, augments the taught ones, and mixes in older talk against forgetting.

Pure but for reading files. Knows no tensors and no tokenizer, so the bot's process can preview what
a run would learn. A data file is JSON lines, each `{"user", "bot"}` or
`{"messages": [{"role", "content"}, ...]}`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from core.records import Conversation, Message, Role
from i18n.phrase import phrase
from training.config import TrainingConfig
from training.errors import CorruptData

FEW_PAIRS, MAX_TALKS_PER_PAIR = 32, 6
"""With FEW_PAIRS taught pairs or more, each is put after one other talk; with fewer, after up to
MAX_TALKS_PER_PAIR, so that a handful of pairs makes enough rows to learn from."""
DATA_FOLDER = Path(__file__).parents[1] / "data"
STARTER_FILE = DATA_FOLDER / "starter.jsonl"
"""Pairs written by this project: small talk that every fine-tuned model should keep."""
STARTER_FILE_JA = DATA_FOLDER / "starter_ja.jsonl"
"""The same for models that speak Japanese."""
GENERAL_FILE = DATA_FOLDER / "general.jsonl"
"""The first turns of conversations of chitchat-dataset (MIT): talk that should not be forgotten."""


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a JSON-lines file, in order. Raises CorruptData: a line is not a record;
    the message names the line."""
    with path.open(encoding="utf-8-sig") as lines:
        return [
            _parse(line, phrase("{file} line {line}", file=path.name, line=n))
            for n, line in enumerate(lines, 1)
            if line.strip()
        ]


def _parse(line: str, where: str) -> Conversation:
    try:
        record = json.loads(line)
        if "messages" in record:
            said = [(Role(m["role"]), m["content"]) for m in record["messages"]]
        else:
            said = [(Role.USER, record["user"]), (Role.ASSISTANT, record["bot"])]
    except (ValueError, KeyError, TypeError) as e:
        raise CorruptData(
            phrase("{where} is not a conversation: {why}", where=where, why=repr(e))
        ) from e
    if not all(isinstance(content, str) for _, content in said):
        raise CorruptData(
            phrase("{where} is not a conversation: what is said must be text", where=where)
        )
    return tuple(Message(role, content) for role, content in said)


def augment(
    taught: Sequence[Conversation], others: Sequence[Conversation], seed: int
) -> list[Conversation]:
    """Each taught conversation as people will ask it: alone, carelessly typed, and amid other talk.

    The context of a reply is the last few messages, so a pair that was only ever seen alone would
    not be recalled in a running conversation. The earlier turns are other taught pairs (people try
    one after the other) or come from `others`."""
    rng = random.Random(seed)
    talks = max(1, min(MAX_TALKS_PER_PAIR, FEW_PAIRS // max(1, len(taught))))
    out: list[Conversation] = []
    for turns in taught:
        siblings = [other for other in taught if other != turns]
        pools = [pool for pool in (siblings, list(others)) if pool]
        for variant in (turns, _casual(turns)):
            out.append(variant)
            for _ in range(talks if pools else 0):
                before = [rng.choice(rng.choice(pools)) for _ in range(rng.choice((1, 2)))]
                out.append((*(message for other in before for message in other[:2]), *variant))
    return out


def exclude_taught(
    taught: Sequence[Conversation], others: Sequence[Conversation]
) -> list[Conversation]:
    """The others that do not begin with a taught question, which has another answer now."""
    questions = {normalized_question(turns) for turns in taught}
    return [turns for turns in others if normalized_question(turns) not in questions]


def normalized_question(turns: Conversation) -> str:
    """The first question as it is compared: without case and closing punctuation."""
    return _casual(turns)[0].content


def _casual(turns: Conversation) -> Conversation:
    """The same with the user's words in lower case and without closing punctuation."""
    return tuple(
        Message(m.role, m.content.lower().rstrip(" .?!。？！")) if m.role is Role.USER else m
        for m in turns
    )


def mix_replay(
    config: TrainingConfig, taught: list[Conversation], *, japanese: bool = False
) -> list[Conversation]:
    """The conversations that a run trains on: the taught ones augmented, and replayed older talk. A
    `japanese` base replays Japanese only: English would be new to it."""
    if config.packing or not config.replay:
        return taught
    starter = _read_untaught(taught, STARTER_FILE_JA if japanese else STARTER_FILE)
    general = [] if japanese else _read_untaught(taught, GENERAL_FILE)
    mixed_in = starter[: config.replay] + general[: config.replay]
    return augment(taught, starter, config.seed) + mixed_in


def read_talk(taught: Sequence[Conversation], *, japanese: bool) -> list[Conversation]:
    """All older talk but that which begins with a taught question."""
    files = (STARTER_FILE_JA,) if japanese else (STARTER_FILE, GENERAL_FILE)
    return [turns for file in files for turns in _read_untaught(taught, file)]


def _read_untaught(taught: Sequence[Conversation], file: Path) -> list[Conversation]:
    return exclude_taught(taught, _read_shipped(file))


@cache
def _read_shipped(file: Path) -> tuple[Conversation, ...]:
    """A file that comes with the bot, so it stays as it is."""
    return tuple(read_conversations(file))

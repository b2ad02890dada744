"""Where `gpt2bot train` takes its conversations from: a file, or a public data set by its name.

Knows formats. Does not know what is made of the conversations.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from data.schema import Conversation
from model.chat import from_pair
from training.errors import CorruptData, EmptyDataset, NoSuchData
from training.lessons import read_conversations

CHITCHAT = "chitchat"
CHATTERBOT = "chatterbot"
KINDS = ".jsonl, .json or .csv"
NO_PACKAGE = (
    "The data set “{spec}” comes in a package that is not installed: "
    'pip install "gpt2-discord-bot[starter]"'
)


def read(spec: str, limit: int | None = None) -> list[Conversation]:
    """The first `limit` conversations of a file, of `chitchat`, or of `chatterbot:LANGUAGE:TOPIC`,
    where the topic can be left out.

    Raises:
        NoSuchData: there is no such file or data set.
        CorruptData: a record cannot be read; the sentence names it.
        EmptyDataset: it holds no conversation.
    """
    name, _, part = spec.partition(":")
    if name in (CHITCHAT, CHATTERBOT) and not Path(spec).exists():
        found = _public(spec, name, part or "english")
    else:
        found = _file(Path(spec))
    conversations = list(islice(found, limit))
    if not conversations:
        raise EmptyDataset(f"There is no conversation in {spec}.")
    return conversations


def _public(spec: str, name: str, part: str) -> Iterable[Conversation]:
    language, _, topic = part.partition(":")
    try:
        from training import corpora

        if name == CHITCHAT:
            return list(corpora.chitchat())
        return list(corpora.chatterbot([topic] if topic else None, language))
    except ModuleNotFoundError as e:
        raise NoSuchData(NO_PACKAGE.format(spec=spec)) from e
    except FileNotFoundError as e:
        raise NoSuchData(f"chatterbot-corpus has no “{part}”.") from e


def _file(path: Path) -> Iterable[Conversation]:
    if not path.is_file():
        raise NoSuchData(
            f"There is no file {path}: give a file ({KINDS}), chitchat, or chatterbot:english."
        )
    try:
        match path.suffix.lower():
            case ".jsonl":
                return read_conversations(path)
            case ".json":
                return _pairs(path, json.loads(path.read_text(encoding="utf-8-sig")))
            case ".csv":
                with path.open(encoding="utf-8-sig", newline="") as rows:
                    return _pairs(path, list(csv.DictReader(rows)))
    except UnicodeDecodeError as e:
        raise CorruptData(f"{path.name} is not UTF-8 text: save it as UTF-8.") from e
    except csv.Error as e:
        raise CorruptData(f"{path.name} is not CSV: {e}.") from e
    except json.JSONDecodeError as e:
        raise CorruptData(f"{path.name} is not JSON: {e.msg} in line {e.lineno}.") from e
    raise NoSuchData(f"{path.name} is of no kind that can be read: save it as {KINDS}.")


def _pairs(path: Path, records: Any) -> list[Conversation]:
    if not isinstance(records, list):
        raise CorruptData(f'{path.name} must be a list of {{"user": …, "bot": …}}.')
    return [_pair(f"{path.name} record {n}", record) for n, record in enumerate(records, 1)]


def _pair(where: str, record: Any) -> Conversation:
    try:
        user, bot = record["user"], record["bot"]
    except (KeyError, TypeError, IndexError) as e:
        raise CorruptData(f"{where} has no “user” and “bot”.") from e
    if not isinstance(user, str) or not isinstance(bot, str):
        raise CorruptData(f"{where} must have text as “user” and “bot”.")
    return from_pair(user, bot)

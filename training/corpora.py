"""Public conversations as training data: two packages and one corpus from GitHub.

- `chitchat-dataset` (MIT): 7,168 conversations between two people.
- `chatterbot-corpus` (BSD-3): questions and answers by topic.
- JSON lines of `messages`, as they are: the cleaned Japanese corpora that the card of `tiny-ja`
  names.
- Self-dialogue Corpus (BSD-3, GitHub `jfainberg/self_dialogue_corpus`): a clone of it, or its
  conversations as JSON lines of `messages`.

Knows their formats only. The packages are the optional extra `starter`.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.records import Conversation, Message, Role

MAX_TURN_CHARS = 300
"""Characters of a turn; a longer one is mostly pasted text."""

ENGLISH_TOPICS = [
    "ai", "botprofile", "computers", "conversations", "emotion", "food", "greetings", "history",
    "humor", "literature", "money", "movies", "science", "sports", "trivia",
]  # fmt: skip

_PLAIN_PUNCTUATION = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "–": "-", "—": "-"}
)
_RUDE = re.compile(
    r"\b(fuck\w*|shit\w*|bitch\w*|cunt\w*|nigg\w*|fag\w*|whore\w*|slut\w*|rape\w*|porn\w*|"
    r"cock|dick|pussy|sex\w*|kill yourself|suicid\w*|bastard\w*|asshole\w*|retard\w*|nazi\w*)\b",
    re.IGNORECASE,
)


def chitchat() -> Iterator[Conversation]:
    """The conversations of `chitchat-dataset`; consecutive messages of one person are joined."""
    from chitchat_dataset import ConversationDataset

    for turns in ConversationDataset():
        yield from _clean(turns)


def chatterbot(
    topics: Iterable[str] | None = None, language: str = "english"
) -> Iterator[Conversation]:
    """The conversations of `chatterbot-corpus` in a language, by topic.

    Without topics it is all of them, in English ENGLISH_TOPICS. Raises FileNotFoundError: the
    corpus does not have that language, or that topic in it."""
    import chatterbot_corpus
    import yaml

    folder = Path(chatterbot_corpus.__file__).parent / "data" / language
    if topics is None:
        topics = ENGLISH_TOPICS if language == "english" else _topics(folder)
    for topic in topics:
        loaded = yaml.safe_load((folder / f"{topic}.yml").read_text(encoding="utf-8"))
        for turns in loaded["conversations"]:
            yield from _clean(str(turn) for turn in turns)


def _topics(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir() if path.suffix == ".yml")


def self_dialogue(path: Path) -> Iterator[Conversation]:
    """The Self-dialogue Corpus, from a clone's folder or a file of JSON lines (`.gz` or not)."""
    if path.is_dir():
        for file in sorted(path.glob("corpus/*/*.csv")):
            with file.open(encoding="utf-8", newline="") as rows:
                for row in csv.DictReader(rows):
                    if not row.get("Reject"):
                        yield from _clean(_sentences(row))
        return
    for texts in _json_lines(path):
        yield from _clean(texts)


def json_lines(path: Path) -> Iterator[Conversation]:
    """The conversations of a file of JSON lines of `messages` (`.gz` or not), as they are, unless
    they are short, long or rude."""
    for texts in _json_lines(path):
        yield from _checked(texts)


def _json_lines(path: Path) -> Iterator[list[str]]:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield [message["content"] for message in json.loads(line)["messages"]]


def _sentences(row: dict[str, str]) -> Iterator[str]:
    number = 1
    while sentence := row.get(f"Answer.sentence{number}"):
        if sentence != "{}":
            yield sentence
        number += 1


def _clean(texts: Iterable[str]) -> Iterator[Conversation]:
    """The conversation with plain quotes and single spaces, unless it is short, long or rude."""
    yield from _checked([" ".join(text.translate(_PLAIN_PUNCTUATION).split()) for text in texts])


def _checked(turns: Sequence[str]) -> Iterator[Conversation]:
    if len(turns) < 2 or any(not t or len(t) > MAX_TURN_CHARS or _RUDE.search(t) for t in turns):
        return
    roles = (Role.USER, Role.ASSISTANT)
    yield tuple(Message(roles[n % 2], text) for n, text in enumerate(turns))

"""Small talk by situation: what people say in it, in many ways, and replies that suit all of them.

A small model learns what it sees often and in many wordings, so a situation is written once and
told in many talks. Each line of a file is one situation:

    {"user": ["just ate {food}", …], "bot": ["{Food}! That sounds tasty.", …],
     "then": [{"user": […], "bot": […]}], "slots": {"food": ["pizza", …]}}

Every reply suits every message beside it; the turns in `then` follow whatever was said before.
`{food}` is the same word all through a talk, `{Food}` the word with a capital letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from core.records import Conversation, Message, Role
from i18n.phrase import phrase
from training.errors import CorruptData

FILE = Path(__file__).parent / "data" / "situations.jsonl"
FILE_JA = FILE.with_name("situations_ja.jsonl")
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """Messages, and the replies to each of them."""

    user: tuple[str, ...]
    bot: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Situation:
    """Exchanges that follow each other, and the words of each slot."""

    exchanges: tuple[Exchange, ...]
    slots: Mapping[str, tuple[str, ...]]

    def talks(self, count: int, rng: Random) -> Iterator[Conversation]:
        """So many talks; the first messages take turns. Half of the talks have all exchanges, the
        others any number of them."""
        first = self.exchanges[0].user
        order = rng.sample(first, len(first))
        for number in range(count):
            words = {slot: rng.choice(fillers) for slot, fillers in self.slots.items()}
            length = rng.choice((rng.randint(1, len(self.exchanges)), len(self.exchanges)))
            said: list[Message] = []
            for exchange in self.exchanges[:length]:
                message = rng.choice(exchange.user) if said else order[number % len(order)]
                reply = rng.choice(exchange.bot)
                said += (Message(Role.USER, message), Message(Role.ASSISTANT, reply))
            yield tuple(Message(one.role, _filled(one.content, words)) for one in said)


def _filled(text: str, words: Mapping[str, str]) -> str:
    def word(slot: re.Match[str]) -> str:
        name = slot[1]
        if name in words:
            return words[name]
        filler = words[name[0].lower() + name[1:]]
        return filler[0].upper() + filler[1:]

    return SLOT.sub(word, text)


def read_situations(path: Path) -> list[Situation]:
    """The situations of a file. Raises CorruptData: a line is not one; the message names it."""
    with path.open(encoding="utf-8") as lines:
        return [_parse(line, f"{path.name}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def _parse(line: str, where: str) -> Situation:
    try:
        record = json.loads(line)
        exchanges = tuple(_exchange(one) for one in (record, *record.get("then", ())))
        slots = {name: _texts(words) for name, words in record.get("slots", {}).items()}
        situation = Situation(exchanges, slots)
        _check(situation)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise CorruptData(phrase("{where} is not a situation: {why}", where=where, why=e)) from e
    return situation


def _exchange(record: Mapping[str, Any]) -> Exchange:
    return Exchange(_texts(record["user"]), _texts(record["bot"]))


def _texts(listed: object) -> tuple[str, ...]:
    if not isinstance(listed, list) or not listed:
        raise ValueError("“user”, “bot” and each slot must be lists of texts")
    if not all(isinstance(one, str) and one.strip() for one in listed):
        raise ValueError("each of a list must be a text")
    return tuple(listed)


def _check(situation: Situation) -> None:
    texts = [text for one in situation.exchanges for text in (*one.user, *one.bot)]
    used = {name[0].lower() + name[1:] for text in texts for name in SLOT.findall(text)}
    if unknown := used ^ set(situation.slots):
        raise ValueError(f"slots without words, or not used: {', '.join(sorted(unknown))}")


def tell(situations: Sequence[Situation], count: int, rng: Random) -> list[Conversation]:
    """`count` talks of each situation."""
    return [talk for situation in situations for talk in situation.talks(count, rng)]

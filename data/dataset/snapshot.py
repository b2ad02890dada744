"""Writes the data set out of the database: what a training run reads.

Knows files and JSON. Does not know SQL, nor who trains.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from core.errors import write_error
from core.records import Example, Pair, Role
from i18n.phrase import phrase

PairT = TypeVar("PairT", Example, Pair)


def write_snapshot(examples: Sequence[Example], path: Path) -> str:
    """Freeze examples as JSON lines, by id; the sha256 of the file in hex.

    A line is `{"user", "bot"}`, or `{"messages": [...]}` for pairs of one conversation of which
    each has the turn after the one before; it stands where its first pair would. An example of
    weight w is written w times, a conversation as often as its heaviest pair. The same examples
    give the same bytes. The file appears whole or not at all.

    Raises:
        DiskFull, StoreError: it could not be written; what was there before is untouched.
    """
    talks = sorted(_group_conversations(examples), key=lambda talk: min(one.id for one in talk))
    snapshot = "".join(_jsonl_line(talk) * max(one.weight for one in talk) for talk in talks)
    content = snapshot.encode()
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as e:
        partial.unlink(missing_ok=True)
        raise write_error(phrase("The data set"), e) from e
    return hashlib.sha256(content).hexdigest()


def as_pairs(examples: Iterable[Example]) -> list[Pair]:
    """As a file of pairs holds them."""
    return [Pair(one.user, one.bot, one.conversation, one.turn, one.source) for one in examples]


def contributor_consents(examples: Iterable[Example]) -> dict[int, int | None]:
    """Whose words the examples are: each member's id, and the consent under which they are used.

    None: the member handed over all of them on purpose. Where several consents are named, it is
    the newest version. By id.
    """
    found: dict[int, int | None] = {}
    for one in examples:
        found.setdefault(one.author_id, None)
        if one.asked_by is not None or one.consent_version is not None:
            member = one.author_id if one.asked_by is None else one.asked_by
            versions = (found.get(member), one.consent_version)
            found[member] = max((v for v in versions if v is not None), default=None)
    return dict(sorted(found.items()))


def _group_conversations(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Pairs that belong together, each with the turn after the one before."""
    conversations: dict[tuple[int, str], list[Example]] = defaultdict(list)
    for one in sorted(examples, key=lambda one: one.id):
        if one.conversation:
            conversations[one.scope, one.conversation].append(one)
        else:
            yield [one]
    for pairs in conversations.values():
        yield from consecutive_turns(pairs)


def consecutive_turns(pairs: list[PairT]) -> Iterator[list[PairT]]:
    """The pairs of a conversation in the order of their turns, cut where one is missing.

    Two conversations of one name (they come from two files) are told apart by the order in which
    their pairs arrived.
    """
    if len({one.turn for one in pairs}) == len(pairs):
        pairs = sorted(pairs, key=lambda one: one.turn)
    chain = pairs[:1]
    for one in pairs[1:]:
        if one.turn == chain[-1].turn + 1:
            chain.append(one)
        else:
            yield chain
            chain = [one]
    yield chain


def _jsonl_line(talk: Sequence[Example]) -> str:
    if len(talk) == 1:
        record: object = {"user": talk[0].user, "bot": talk[0].bot}
    else:
        said = [(role, text) for one in talk for role, text in _turns(one)]
        record = {"messages": [{"role": role, "content": text} for role, text in said]}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _turns(example: Example) -> tuple[tuple[str, str], tuple[str, str]]:
    return (Role.USER.value, example.user), (Role.ASSISTANT.value, example.bot)

"""Writes examples to the JSON lines file that a training run reads. Does not know SQL."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from core.files import write_atomically
from core.records import Conversation, Example, Pair, Role
from data.questions.answers import answer_digest
from i18n.phrase import phrase

PairT = TypeVar("PairT", Example, Pair)


def write_snapshot(examples: Sequence[Example], path: Path) -> str:
    """Write examples as JSON lines, sorted by id; return the file's SHA-256 in hex.

    A line is `{"user", "bot"}`, or `{"messages": [...]}` for consecutive turns of a conversation,
    at the position of its first pair. An example of weight w is written w times, a conversation as
    often as its heaviest pair. The same examples give the same bytes. Raises DiskFull, StoreError:
    it could not be written; a file that was there is untouched."""
    content = "".join(map(_jsonl_line, learned_talks(examples))).encode()
    write_atomically(path, content, phrase("The data set"))
    return hashlib.sha256(content).hexdigest()


def learned_talks(examples: Iterable[Example]) -> list[list[Example]]:
    """The conversations and single pairs in the order in which they are written, each as often."""
    talks = sorted(_group_conversations(examples), key=lambda talk: min(one.id for one in talk))
    return [talk for talk in talks for _ in range(max(one.weight for one in talk))]


def as_pairs(examples: Iterable[Example]) -> list[Pair]:
    """The examples as pairs, for an exported file."""
    return [Pair(one.user, one.bot, one.conversation, one.turn, one.source) for one in examples]


def pair_digest(user: str, bot: str) -> str:
    """A short hash of a pair, by which a checkpoint remembers what it learned."""
    return hashlib.sha256(f"{user}\0{bot}".encode("utf-8", "replace")).hexdigest()[:16]


def learned_digests(talks: Iterable[Conversation]) -> list[str]:
    """The digests of all pairs in the conversations of a snapshot, sorted."""
    pairs = (pair for talk in talks for pair in zip(talk[::2], talk[1::2], strict=False))
    return sorted({pair_digest(asked.content, said.content) for asked, said in pairs})


def answer_digests(talks: Iterable[Conversation]) -> list[str]:
    """The digests of all answers in the conversations of a snapshot that belong to one question
    only, sorted."""
    digests = (answer_digest(said.content) for talk in talks for said in talk[1::2])
    return sorted({one for one in digests if one})


def contributor_consents(examples: Iterable[Example]) -> dict[int, int | None]:
    """The newest version of each contributor's consent, by member id, sorted. None: the member
    taught all of their examples on purpose."""
    found: dict[int, int | None] = {}
    for one in examples:
        found.setdefault(one.author_id, None)
        if one.asked_by is not None or one.consent_version is not None:
            member = one.author_id if one.asked_by is None else one.asked_by
            versions = (found.get(member), one.consent_version)
            found[member] = max((v for v in versions if v is not None), default=None)
    return dict(sorted(found.items()))


def _group_conversations(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Runs of consecutive turns, and single pairs."""
    conversations: dict[tuple[int, str], list[Example]] = defaultdict(list)
    for one in sorted(examples, key=lambda one: one.id):
        if one.conversation:
            conversations[one.scope, one.conversation].append(one)
        else:
            yield [one]
    for pairs in conversations.values():
        yield from consecutive_turns(pairs)


def consecutive_turns(pairs: list[PairT]) -> Iterator[list[PairT]]:
    """The pairs of a conversation sorted by turn, split where a turn is missing.

    If turns repeat, two files used the same conversation name: then the pairs keep their order of
    arrival, which separates the two."""
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
        said = [((Role.USER, one.user), (Role.ASSISTANT, one.bot)) for one in talk]
        turns = [{"role": role.value, "content": text} for pair in said for role, text in pair]
        record = {"messages": turns}
    return json.dumps(record, ensure_ascii=False) + "\n"

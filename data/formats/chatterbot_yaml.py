"""The YAML of chatterbot-corpus: `categories`, and `conversations` of alternating lines.

A list `details`, parallel to `conversations`, adds their names, first turns and sources; other
readers ignore it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.errors import ImportRefused
from core.records import Pair, Role
from data.formats.encodings import read_text
from data.formats.import_result import ImportBuilder
from data.formats.records import Utterance, encode_problems, read_utterances
from data.formats.registry import Problems
from data.formats.texts import has_lone_surrogates
from i18n.phrase import phrase

MAX_DEPTH = 10
MAX_NODES = 300_000
"""Texts and lists; reading so many takes 2 s."""
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ROLES = (Role.USER, Role.ASSISTANT)
_NOT_PLAIN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class _Node:
    """A node and the line where it begins; a mapping's `value` alternates keys and values."""

    line: int
    value: str | list[_Node]
    is_mapping: bool = False


def read(path: Path, name: str, into: ImportBuilder) -> None:
    top = _parse_top_mapping(read_text(path, name), name)
    talks, details = top.get("conversations"), _items(top.get("details"))
    if talks is None or isinstance(talks.value, str) or talks.is_mapping:
        raise ImportRefused(
            phrase(
                "{name} has no list of “conversations”, as the YAML of chatterbot-corpus has.",
                name=name,
            )
        )
    if details and len(details) != len(talks.value):
        into.add_error(
            talks.line, phrase("“details” has not one entry for each conversation: it was ignored.")
        )
        details = []
    for number, talk in enumerate(into.count_rows(talks.value), 1):
        about = _details(details[number - 1]) if details else ("", 0, "")
        _read_conversation(talk, about, f"{name}#{number}", into)


def _read_conversation(
    talk: _Node, about: tuple[str, int, str], name: str, into: ImportBuilder
) -> None:
    utterances: list[Utterance] = []
    for number, item in enumerate(_items(talk)):
        if not isinstance(item.value, str):
            into.add_error(
                item.line, phrase("This line is no plain text: put quotation marks around it.")
            )
            return
        utterances.append((item.line, _ROLES[number % 2], item.value.strip()))
    if utterances:
        read_utterances(utterances, about, name, into)
    else:
        into.add_error(talk.line, phrase("This is no list of what was said in turn."))


def _items(node: _Node | None) -> list[_Node]:
    return [] if node is None or isinstance(node.value, str) or node.is_mapping else node.value


def _mapping(node: _Node) -> dict[str, _Node]:
    if not node.is_mapping or isinstance(node.value, str):
        return {}
    keys, values = node.value[::2], node.value[1::2]
    return {str(k.value): v for k, v in zip(keys, values, strict=True) if isinstance(k.value, str)}


def _details(node: _Node) -> tuple[str, int, str]:
    found = {key: value.value for key, value in _mapping(node).items()}
    conversation, turn, source = (found.get(key, "") for key in ("conversation", "turn", "source"))
    number = int(turn) if isinstance(turn, str) and turn.isdecimal() and len(turn) < 10 else 0
    return str(conversation).strip(), number, str(source).strip()


def _parse_top_mapping(text: str, name: str) -> dict[str, _Node]:
    if has_lone_surrogates(text):
        raise ImportRefused(phrase("{name} is not UTF-8 throughout: save it as UTF-8.", name=name))
    try:
        return _mapping(_build_tree(yaml.parse(text, Loader=Loader), name))
    except yaml.YAMLError as e:
        if mark := getattr(e, "problem_mark", None):
            message = phrase(
                "{name} is no YAML: there is a mistake in line {line}.",
                name=name,
                line=mark.line + 1,
            )
        else:
            message = phrase("{name} is no YAML: there is a mistake.", name=name)
        raise ImportRefused(message) from e


def _build_tree(events: Iterable[yaml.Event], name: str) -> _Node:
    """The tree of the first document, built from parser events.

    Nothing is loaded: a file cannot construct objects, aliases (the "billion laughs" attack) are
    refused, and a scalar such as Yes or 1.50 stays text.
    """
    root: list[_Node] = []
    stack = [root]
    nodes = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ImportRefused(
                phrase("{name} has aliases (*), which are not read: write them out.", name=name)
            )
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            if nodes > MAX_NODES:
                raise ImportRefused(
                    phrase("{name} has over {limit:,} lines: split it.", name=name, limit=MAX_NODES)
                )
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            value: Any = event.value if isinstance(event, yaml.ScalarEvent) else []
            line = event.start_mark.line + 1 if event.start_mark else 1
            stack[-1].append(_Node(line, value, is_mapping))
            if not isinstance(event, yaml.ScalarEvent):
                stack.append(value)
            if len(stack) > MAX_DEPTH:
                raise ImportRefused(
                    phrase("{name} is nested too deep for a list of conversations.", name=name)
                )
    return root[0] if root else _Node(1, "")


def encode(pairs: Sequence[Pair]) -> bytes:
    groups = _groups(pairs)
    lines = ["categories:", "- gpt2-discord-bot", "conversations:" + ("" if groups else " []")]
    for group in groups:
        texts = [_quoted(text) for pair in group for text in (pair.user, pair.bot)]
        lines.append("- - " + "\n  - ".join(texts))
    details = [_details_yaml(group[0]) for group in groups]
    if any(details):
        lines += ["details:", *(f"- {{{one}}}" for one in details)]
    return "".join(line + "\n" for line in lines).encode()


def annotate(path: Path, name: str, problems: Problems) -> bytes:
    return encode_problems(read_text(path, name).split("\n"), problems)


def _groups(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Single pairs, and runs of consecutive turns of a conversation."""
    groups: list[list[Pair]] = []
    for pair in pairs:
        if groups and _follows(groups[-1][-1], pair):
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return groups


def _follows(before: Pair, pair: Pair) -> bool:
    same = (before.conversation, before.source) == (pair.conversation, pair.source)
    return bool(pair.conversation) and same and pair.turn == before.turn + 1


def _details_yaml(pair: Pair) -> str:
    about = {"conversation": pair.conversation, "turn": pair.turn, "source": pair.source}
    return ", ".join(f"{key}: {_quoted(str(value))}" for key, value in about.items() if value)


def _quoted(text: str) -> str:
    """A quoted scalar: a JSON string, with the characters that YAML cannot hold escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return _NOT_PLAIN.sub(lambda m: f"\\u{ord(m[0]):04x}", quoted)

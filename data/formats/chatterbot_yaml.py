"""The YAML of chatterbot-corpus: `categories`, and lists of `conversations`.

The lines of a conversation alternate, the user's first. What the format has no place for (the
conversation's name, its first turn, its source) is in `details`, a list parallel to
`conversations`, which other readers of the format ignore.

YAML is read as parser events, not loaded: a file cannot construct objects, aliases (the "billion
laughs") are refused, and a text such as Yes or 1.50 stays as it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
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
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ROLES = (Role.USER, Role.ASSISTANT)
_NOT_PLAIN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class _Node:
    """A node, and the line where it begins; a mapping's `value` is key, value, key, value, …"""

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
    said: list[Utterance] = []
    for number, line in enumerate(_items(talk)):
        if not isinstance(line.value, str):
            into.add_error(
                line.line, phrase("This line is no plain text: put quotation marks around it.")
            )
            return
        said.append((line.line, _ROLES[number % 2], line.value.strip()))
    if said:
        read_utterances(said, about, name, into)
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
        mark = getattr(e, "problem_mark", None)
        raise ImportRefused(_syntax_error_message(name, mark.line + 1 if mark else None)) from e


def _syntax_error_message(name: str, line: int | None) -> str:
    if line is None:
        return phrase("{name} is no YAML: there is a mistake.", name=name)
    return phrase("{name} is no YAML: there is a mistake in line {line}.", name=name, line=line)


def _build_tree(events: Iterable[yaml.Event], name: str) -> _Node:
    """The tree of the first document."""
    root: list[_Node] = []
    stack = [root]
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ImportRefused(
                phrase("{name} has aliases (*), which are not read: write them out.", name=name)
            )
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
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
    return "".join(_lines(pairs)).encode()


def annotate(path: Path, name: str, problems: Problems) -> bytes:
    """YAML has no records that could be cut out: the copy quotes the lines."""
    return encode_problems(read_text(path, name).split("\n"), problems)


def _lines(pairs: Iterable[Pair]) -> Iterator[str]:
    """The lines of a file; consecutive turns of a conversation are one list."""
    groups = list(_groups(pairs))
    yield "categories:\n- gpt2-discord-bot\n"
    yield "conversations:\n" if groups else "conversations: []\n"
    for group in groups:
        texts = [_quoted(text) for pair in group for text in (pair.user, pair.bot)]
        yield "- - " + "\n  - ".join(texts) + "\n"
    if any(_details_yaml(group[0]) for group in groups):
        yield "details:\n"
        for group in groups:
            yield f"- {{{_details_yaml(group[0])}}}\n"


def _groups(pairs: Iterable[Pair]) -> Iterator[Sequence[Pair]]:
    group: list[Pair] = []
    for pair in pairs:
        if group and not _follows(group[-1], pair):
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _follows(before: Pair, pair: Pair) -> bool:
    same = (before.conversation, before.source) == (pair.conversation, pair.source)
    return bool(pair.conversation) and same and pair.turn == before.turn + 1


def _details_yaml(pair: Pair) -> str:
    about = {"conversation": pair.conversation, "turn": pair.turn, "source": pair.source}
    return ", ".join(f"{key}: {_quoted(str(value))}" for key, value in about.items() if value)


def _quoted(text: str) -> str:
    """A quoted scalar: JSON's strings are YAML's, apart from characters that YAML cannot hold."""
    quoted = json.dumps(text, ensure_ascii=False)
    return _NOT_PLAIN.sub(lambda m: f"\\u{ord(m[0]):04x}", quoted)

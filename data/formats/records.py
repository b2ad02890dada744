"""Records and lists of utterances, to pairs and back: what JSON, JSON lines and YAML share.

A record is {"user", "bot"}, or {"messages": [{"role", "content"}]} as on Hugging Face; both may
have "conversation", "turn" and "source". Messages with the role "system" are left out: the bot's
system prompt is set elsewhere. Consecutive messages of one speaker are joined. Several pairs in one
record or list are turns of one conversation; without a name of its own, it is named after the file
and the record.

Pure: does not know how records are laid out in a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import count, groupby
from typing import Any

from core.records import Pair, Role
from data.formats.columns import Field, field_of
from data.formats.import_result import ImportBuilder
from data.formats.registry import Problems
from data.formats.table import MISSING_BOT_TEXT, MISSING_USER_TEXT
from data.formats.texts import join_pieces
from i18n.phrase import phrase

NOT_A_RECORD = phrase('This is no {"user": …, "bot": …} and no {"messages": […]}.')
Utterance = tuple[int, Role, str]
"""Row, speaker, text."""
_KNOWN = {"user": Role.USER, "assistant": Role.ASSISTANT}


def read_record(row: int, record: Any, name: str, into: ImportBuilder) -> None:
    """Add the pairs of a record; `name` is the file's."""
    if not isinstance(record, dict):
        into.add_error(row, NOT_A_RECORD)
        return
    fields = {field_of(str(key)): value for key, value in record.items()}
    details = _details(row, fields, into)
    if details is None:
        return
    if "messages" in record:
        _read_messages(row, record["messages"], details, f"{name}#{row}", into)
    elif isinstance(fields.get(Field.USER), str) and isinstance(fields.get(Field.BOT), str):
        pair = Pair(fields[Field.USER].strip(), fields[Field.BOT].strip(), *details)
        into.add_pair(row, pair)
    else:
        into.add_error(row, NOT_A_RECORD)


def _details(
    row: int, fields: dict[Field | None, Any], into: ImportBuilder
) -> tuple[str, int, str] | None:
    """Conversation, turn and source; None, and an error in `into`, if the turn is wrong."""
    conversation, source = (
        "" if value is None else str(value).strip()
        for value in (fields.get(Field.CONVERSATION), fields.get(Field.SOURCE))
    )
    turn = fields.get(Field.TURN)
    if turn is None or not conversation:
        return conversation, 0, source
    if type(turn) is int and 0 < turn < 10**9:
        return conversation, turn, source
    into.add_error(row, phrase("The turn “{turn}” is no whole number from 1.", turn=str(turn)[:20]))
    return None


def _read_messages(
    row: int, messages: Any, details: tuple[str, int, str], name: str, into: ImportBuilder
) -> None:
    said: list[Utterance] = []
    for message in messages if isinstance(messages, list) else [None]:
        role, content = _message(message)
        if role == "system":
            continue
        if role not in _KNOWN or content is None:
            into.add_error(row, phrase("A message is no text of the role “user” or “assistant”."))
            return
        said.append((row, _KNOWN[role], content.strip()))
    if not said:
        into.add_error(row, phrase("There is no message."))
        return
    read_utterances(said, details, name, into)


def _message(message: Any) -> tuple[str, str | None]:
    """Role and content; "" and None for one that is no text."""
    if not isinstance(message, dict):
        return "", None
    role, content = message.get("role"), message.get("content")
    return (role if isinstance(role, str) else "", content if isinstance(content, str) else None)


def read_utterances(
    said: Sequence[Utterance], details: tuple[str, int, str], name: str, into: ImportBuilder
) -> None:
    """Add the pairs of one conversation; `name` names it if `details` does not."""
    turns = [_joined(list(group), into) for _, group in groupby(said, key=lambda one: one[1])]
    if turns[0][1] is Role.ASSISTANT:
        into.add_error(turns.pop(0)[0], MISSING_USER_TEXT)
    if len(turns) % 2:
        into.add_error(turns.pop()[0], MISSING_BOT_TEXT)
    conversation, first, source = details
    if len(turns) > 2:
        conversation = conversation or name
    numbers = count(first) if first else None
    for (row, _, user), (_, _, bot) in zip(turns[::2], turns[1::2], strict=True):
        turn = next(numbers) if numbers else 0
        into.add_pair(row, Pair(user, bot, conversation, turn, source))


def _joined(group: list[Utterance], into: ImportBuilder) -> Utterance:
    row, role, text = group[0]
    pieces = [text for _, _, text in group if text]
    if len(pieces) > 1:
        text = join_pieces(pieces)
        into.add_joined(row, text)
    return row, role, text


def to_record(pair: Pair) -> str:
    """The pair as JSON on one line; fields that are empty are left out."""
    record: dict[str, Any] = {"user": pair.user, "bot": pair.bot}
    for key in ("conversation", "turn", "source"):
        if value := getattr(pair, key):
            record[key] = value
    return json.dumps(record, ensure_ascii=False)


def encode_problems(records: Iterable[Any], problems: Problems) -> bytes:
    """The annotated copy of a file of records: JSON lines of the wrong ones, with the reasons."""
    reasons = problems.get("", {})
    lines = (
        json.dumps({"row": row, "problem": reasons[row], "record": record}, ensure_ascii=False)
        for row, record in enumerate(records, 1)
        if row in reasons
    )
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")

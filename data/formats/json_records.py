"""Records and lists of utterances to pairs: JSON, JSON lines, and the YAML of chatterbot-corpus.

A record is {"user", "bot"}, or {"messages": [{"role", "content"}]} as Hugging Face has it; both may
have "conversation", "turn" and "source". Messages of the role "system" are left out: the bot's own
are set elsewhere. Several messages in a row by the same speaker are joined. Several pairs in one
record or list are turns of one conversation, which is named after the file and the record if it
has no name.

Pure: does not know how the records lie in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, groupby
from typing import Any

from core.records import Pair, Role
from data.formats.columns import Field, field_of
from data.formats.import_result import ImportBuilder
from data.formats.table import MISSING_BOT_TEXT, MISSING_USER_TEXT
from data.formats.texts import join_pieces
from i18n.phrase import phrase

NOT_A_RECORD = phrase('This is no {"user": …, "bot": …} and no {"messages": […]}.')
Utterance = tuple[int, Role, str]
"""The row where it is, who says it, and what."""
_KNOWN = {"user": Role.USER, "assistant": Role.ASSISTANT}


def read_record(row: int, record: Any, name: str, into: ImportBuilder) -> None:
    """Gather the pairs of a record; `name` is the file's."""
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
    """Conversation, turn and source; None if one is wrong, which is noted."""
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
    """Role and content, as far as they are texts."""
    if not isinstance(message, dict):
        return "", None
    role, content = message.get("role"), message.get("content")
    return (
        role if isinstance(role, str) else "",
        content if isinstance(content, str) else None,
    )


def read_utterances(
    said: Sequence[Utterance], details: tuple[str, int, str], name: str, into: ImportBuilder
) -> None:
    """Gather the pairs of one conversation; `name` is its own if `details` has none."""
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

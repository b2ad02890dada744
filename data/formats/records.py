"""Records and lists of utterances, to pairs and back: shared by JSON, JSON lines and YAML. Pure.

A record is {"user", "bot"}, or {"messages": [{"role", "content"}]} as on Hugging Face; both may
have "conversation", "turn" and "source".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
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


def read_record(row: int, record: Any, name: str, into: ImportBuilder) -> None:
    """Add the pairs of a record; `name` is the file's name."""
    if not isinstance(record, dict):
        into.add_error(row, NOT_A_RECORD)
        return
    fields = {field_of(str(key)): value for key, value in record.items()}
    if (details := _details(row, fields, into)) is None:
        return
    user, bot = fields.get(Field.USER), fields.get(Field.BOT)
    if "messages" in record:
        _read_messages(row, record["messages"], details, f"{name}#{row}", into)
    elif isinstance(user, str) and isinstance(bot, str):
        into.add_pair(row, Pair(user.strip(), bot.strip(), *details))
    else:
        into.add_error(row, NOT_A_RECORD)


def _details(
    row: int, fields: dict[Field | None, Any], into: ImportBuilder
) -> tuple[str, int, str] | None:
    """Conversation, turn and source; None, and an error in `into`, if the turn is invalid."""
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
    utterances: list[Utterance] = []
    for message in messages if isinstance(messages, list) else [None]:
        match message:
            case {"role": "system"}:  # skipped: the bot's system prompt is set elsewhere
                pass
            case {"role": "user" | "assistant" as role, "content": str(content)}:
                utterances.append((row, Role(role), content.strip()))
            case _:
                into.add_error(
                    row, phrase("A message is no text of the role “user” or “assistant”.")
                )
                return
    if utterances:
        read_utterances(utterances, details, name, into)
    else:
        into.add_error(row, phrase("There is no message."))


def read_utterances(
    utterances: Sequence[Utterance], details: tuple[str, int, str], name: str, into: ImportBuilder
) -> None:
    """Add the pairs of one conversation, joining consecutive utterances of one speaker.

    `name` names a conversation of several pairs for which `details` has no name.
    """
    turns = [_joined(list(group), into) for _, group in groupby(utterances, key=lambda one: one[1])]
    if turns[0][1] is Role.ASSISTANT:
        into.add_error(turns.pop(0)[0], MISSING_USER_TEXT)
    if len(turns) % 2:
        into.add_error(turns.pop()[0], MISSING_BOT_TEXT)
    conversation, first, source = details
    if len(turns) > 2:
        conversation = conversation or name
    for n, ((row, _, user), (_, _, bot)) in enumerate(zip(turns[::2], turns[1::2], strict=True)):
        turn = first + n if first else 0
        into.add_pair(row, Pair(user, bot, conversation, turn, source))


def _joined(group: list[Utterance], into: ImportBuilder) -> Utterance:
    row, role, text = group[0]
    pieces = [text for _, _, text in group if text]
    if len(pieces) > 1:
        text = join_pieces(pieces)
        into.add_joined(row, text)
    return row, role, text


def to_record(pair: Pair) -> str:
    """The pair as JSON on one line, without empty fields."""
    optional = {"conversation": pair.conversation, "turn": pair.turn, "source": pair.source}
    given = {key: value for key, value in optional.items() if value}
    return json.dumps({"user": pair.user, "bot": pair.bot, **given}, ensure_ascii=False)


def encode_problems(records: Iterable[Any], problems: Problems) -> bytes:
    """The annotated copy of a file of records: JSON lines of the invalid ones, with reasons."""
    reasons = problems.get("", {})
    lines = (
        json.dumps({"row": row, "problem": reasons[row], "record": record}, ensure_ascii=False)
        for row, record in enumerate(records, 1)
        if row in reasons
    )
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")

"""Records and lists of utterances, to pairs and back: shared by JSON, JSON lines and YAML. Pure.

A record is {"user", "bot"} with any usual names for the two (Alpaca's instruction, input and
output), or a conversation: {"messages": [{"role", "content"}]} as OpenAI and Hugging Face have it,
or ShareGPT's {"conversations": [{"from", "value"}]}. All may have "conversation", "turn", "source",
the first also other wordings of its question.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from core.questions import split_wordings
from core.records import Pair, Role
from data.formats.headings import MESSAGES_KEYS, ROLE_KEYS, Field, surest_fields
from data.formats.import_result import ImportBuilder
from data.formats.registry import Problems
from data.formats.table import MISSING_BOT_TEXT, MISSING_USER_TEXT, whole_turn
from data.formats.texts import join_pieces
from i18n.phrase import phrase

MAX_MESSAGES = 10_000
"""Of one conversation."""
NOT_A_RECORD = phrase('This is no {"user": …, "bot": …} and no {"messages": […]}.')
NOT_A_MESSAGE = phrase("A message is no text of the role “user” or “assistant”.")
NO_MESSAGE = phrase("There is no message.")
NOT_LEARNED = phrase(
    "Answers that the file marks as not to be learned, and calls of tools, were left out."
)
Utterance = tuple[int, Role, str]
"""Row, speaker, text."""
Details = tuple[str, int, str]
"""Conversation, turn, source."""

_TEXT_KEYS = ("content", "value")
_DETAILS = (Field.CONVERSATION, Field.TURN, Field.SOURCE)
_CALLS = ("tool_calls", "tool_call", "function_call")
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), Role.USER),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "ai"), Role.ASSISTANT
    ),
    **dict.fromkeys(_CALLS, Role.ASSISTANT),
}
_ROLES_LEFT_OUT = frozenset(
    (
        "system",
        "developer",
        "tool",
        "function",
        "function_response",
        "tool_response",
        "observation",
        "ipython",
    )
)
"""What the bot is told elsewhere, and what programs say."""


class _NotText(ValueError):
    """A value has no text to learn."""


def read_record(row: int, record: Any, name: str, into: ImportBuilder) -> None:
    """Add the pairs of a record; `name` is the file's name."""
    if not isinstance(record, dict):
        into.add_error(row, NOT_A_RECORD)
        return
    key = next((key for key in MESSAGES_KEYS if isinstance(record.get(key), list)), "messages")
    fields = _fields({one: value for one, value in record.items() if one != key})
    try:
        details = _details(fields)
        if _is_not_learned(record):
            into.add_note(NOT_LEARNED)
        elif key in record:
            _read_messages(row, record[key], details, name, into)
        else:
            _read_fields(row, fields, record.get("history"), details, name, into)
    except _NotText as e:
        into.add_error(row, e.args[0])


def _read_messages(
    row: int, messages: Any, details: Details, name: str, into: ImportBuilder
) -> None:
    if not isinstance(messages, list):
        raise _NotText(NOT_A_MESSAGE)
    if len(messages) > MAX_MESSAGES:
        raise _NotText(phrase("The conversation has over {limit:,} messages.", limit=MAX_MESSAGES))
    utterances = _learned(row, messages, into)
    if utterances:
        read_utterances(utterances, details, f"{name}#{row}", into)


def _read_fields(
    row: int,
    fields: Mapping[Field, list[Any]],
    history: Any,
    details: Details,
    name: str,
    into: ImportBuilder,
) -> None:
    """Add what {"user", "bot"} say; the turns before them, if there is a `history`, come first."""
    if not {Field.USER, Field.BOT} <= fields.keys():
        raise _NotText(NOT_A_RECORD)
    user, bot = fields[Field.USER], fields[Field.BOT]
    if all(isinstance(value, list) for value in (*user, *bot)):
        _read_messages(row, [one for value in (*user, *bot) for one in value], details, name, into)
        return
    pair = Pair(_joined_values(row, user, into), _joined_values(row, bot, into), *details)
    before = [turn for turn in history if turn] if isinstance(history, list) else []
    if not before:
        if into.add_pair(row, pair):
            into.add_wordings(row, pair, _wordings(fields.get(Field.ALSO, [])))
        return
    said = [_plain(text) for turn in before for text in (turn if isinstance(turn, list) else ())]
    if len(said) != 2 * len(before):
        raise _NotText(NOT_A_RECORD)
    turns = [*said, pair.user, pair.bot]
    utterances = [(row, tuple(Role)[n % 2], text) for n, text in enumerate(turns)]
    read_utterances(utterances, details, f"{name}#{row}", into)


def _fields(record: Mapping[str, Any]) -> dict[Field, list[Any]]:
    """The values of each field, in the order of their keys, but an instruction first."""
    keys = sorted(record, key=lambda key: key.casefold() != "instruction")
    found: dict[Field, list[Any]] = {}
    for key, field in zip(keys, surest_fields(keys), strict=True):
        if field is not None:
            found.setdefault(field, []).append(record[key])
    return found


def _details(fields: Mapping[Field, list[Any]]) -> Details:
    """Conversation, turn and source.

    Raises:
        _NotText: the turn is invalid.
    """
    conversation, turn, source = (
        str(value).strip() if isinstance(value, dict | list) else _plain(value)
        for value in (fields.get(one, [None])[0] for one in _DETAILS)
    )
    if not turn or not conversation:
        return conversation, 0, source
    if number := whole_turn(turn):
        return conversation, number, source
    raise _NotText(phrase("The turn “{turn}” is no whole number from 1.", turn=turn[:20]))


def _wordings(values: Iterable[Any]) -> list[str]:
    """Other wordings of a question: a text that lists them, or a list of texts."""
    texts = (one for value in values for one in (value if isinstance(value, list) else [value]))
    return [wording for text in texts for wording in split_wordings(_plain(text))]


def _joined_values(row: int, values: Sequence[Any], into: ImportBuilder) -> str:
    pieces = [text for text in map(_plain, values) if text]
    text = join_pieces(pieces)
    if len(pieces) > 1:
        into.add_joined(row, text)
    return text


def _plain(value: Any) -> str:
    """The text of a value that is no list: numbers as a workbook shows them.

    Raises:
        _NotText: it is a list or an object.
    """
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case float():  # pandas writes NaN for an empty cell
            return f"{value:.15g}" if math.isfinite(value) else ""
    raise _NotText(NOT_A_RECORD)


def _learned(row: int, messages: Sequence[Any], into: ImportBuilder) -> list[Utterance]:
    """What user and assistant say, without answers that are not to be learned.

    If no answer to a question is left, the question is left out too.
    """
    speakers = [(role, message) for message in messages if (role := _role(message))]
    if not speakers:
        raise _NotText(NO_MESSAGE)
    found: list[Utterance] = []
    for role, group in groupby(speakers, key=lambda one: one[0]):
        said = [message for _, message in group]
        learned = [one for one in said if role is Role.USER or not _is_not_learned(one)]
        if len(learned) < len(said):
            into.add_note(NOT_LEARNED)
        while not learned and found and found[-1][1] is Role.USER:
            found.pop()
        found += [(row, role, _text(message)) for message in learned]
    return found


def _role(message: Any) -> Role | None:
    """Who speaks; None if the message is left out.

    Raises:
        _NotText: it is no message of a known role.
    """
    if isinstance(message, dict):
        said_by = next((message[key] for key in ROLE_KEYS if key in message), None)
        if isinstance(said_by, str):
            name = said_by.strip().casefold()
            if name in _ROLES_LEFT_OUT:
                return None
            if name in _ROLES:
                return _ROLES[name]
    raise _NotText(NOT_A_MESSAGE)


def _is_not_learned(what: Mapping[str, Any]) -> bool:
    """Whether the form says so of a record or an answer: OpenAI's `weight`, axolotl's `train`, the
    `label` of preferences; or it calls a tool, which is nothing that the bot can say."""
    marked = what.get("weight", 1) == 0 or what.get("train") is False or what.get("label") is False
    called = any(what.get(key) for key in _CALLS)
    return marked or called or str(what.get("from")).casefold() in _CALLS


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message; the parts of OpenAI's content are joined.

    Raises:
        _NotText: a part of it is a picture, a sound or something else.
    """
    content = next((message[key] for key in _TEXT_KEYS if key in message), None)
    if isinstance(content, str | int | float):
        return _plain(content)
    pieces = []
    for part in content if isinstance(content, list) and content else [None]:
        match part:
            case str(text) | {"type": "text" | "input_text" | "output_text", "text": str(text)}:
                pieces.append(text.strip())
            case _:
                raise _NotText(NOT_A_MESSAGE)
    return join_pieces([piece for piece in pieces if piece])


def read_utterances(
    utterances: Sequence[Utterance], details: Details, name: str, into: ImportBuilder
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

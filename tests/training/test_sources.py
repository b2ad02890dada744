"""Files as `gpt2bot train` takes them in: pairs become conversations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openpyxl import Workbook

from core.errors import ImportRefused
from core.records import Conversation, Message, Pair, Role
from training.errors import EmptyDataset, NoSuchData
from training.sources import conversations_of, load_conversations


def words(conversations: list[Conversation]) -> list[str]:
    return ["".join(message.content for message in turns) for turns in conversations]


def test_pairs_of_one_conversation_are_one_in_the_order_of_their_turns() -> None:
    pairs = [
        Pair("c", "d", "talk", 2),
        Pair("x", "y"),
        Pair("a", "b", "talk", 1),
        Pair("x", "z"),
        Pair("1", "2", "other", 7),
    ]
    found = list(conversations_of(pairs))
    assert words(found) == ["abcd", "xy", "xz", "12"]
    assert [message.role for message in found[0]] == [Role.USER, Role.ASSISTANT] * 2


def test_a_conversation_is_cut_where_a_turn_is_missing() -> None:
    pairs = [Pair("a", "b", "talk", 1), Pair("e", "f", "talk", 3), Pair("g", "h", "talk", 4)]
    assert words(list(conversations_of(pairs))) == ["ab", "efgh"]


def test_two_conversations_of_one_name_are_two() -> None:
    pairs = [Pair("a", "b", "talk", 1), Pair("c", "d", "talk", 2), Pair("e", "f", "talk", 1)]
    assert words(list(conversations_of(pairs))) == ["abcd", "ef"]


def test_messages_begin_with_the_user(tmp_path: Path) -> None:
    """A bot that greets first answers nobody: that is told, and the rest is a conversation."""
    said = [("system", "be kind"), ("assistant", "0"), ("user", "1"), ("assistant", "2")]
    said += [("user", "3"), ("assistant", "4")]
    record = {"messages": [{"role": role, "content": text} for role, text in said]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record))
    told: list[str] = []
    [turns] = load_conversations(str(path), tell=told.append)
    assert turns[0] == Message(Role.USER, "1")
    assert words([turns]) == ["1234"]
    assert told[0].startswith("1 row was left out; the first is row 1: ")


def test_a_sheet_is_named_where_a_row_is_wrong(tmp_path: Path) -> None:
    book = Workbook()
    for row in (("user", "bot"), ("a", "b"), ("c", "=1+1")):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    told: list[str] = []
    assert words(load_conversations(str(tmp_path / "a.xlsx"), tell=told.append)) == ["ab"]
    assert "the first is row 3 of the sheet “Sheet”: A formula has" in told[0]


def test_the_first_conversations_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,bot\n" + "".join(f"{n},x\n" for n in range(9)))
    assert words(load_conversations(str(path), 2)) == ["0x", "1x"]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("none.csv", None, NoSuchData),
        ("a.json", b"{", ImportRefused),
        ("a.csv", b"user,bot\nalone,\n", EmptyDataset),
    ],
)
def test_what_cannot_be_used(
    name: str, content: bytes | None, error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error):
        load_conversations(str(path))

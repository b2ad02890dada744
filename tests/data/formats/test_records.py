"""JSON, JSON lines and the YAML of chatterbot-corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.records import Pair
from data.formats.files import read_pairs
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.records import NOT_A_RECORD
from data.formats.table import MISSING_BOT_TEXT, MISSING_USER_TEXT


def said(*contents: str, first: str = "user") -> list[dict[str, str]]:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]


@pytest.fixture(params=[".json", ".jsonl"])
def ending(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def imported(tmp_path: Path, ending: str, records: list[Any]) -> ImportResult:
    path = tmp_path / f"talks{ending}"
    text = json.dumps(records) if ending == ".json" else "\n".join(map(json.dumps, records))
    path.write_text(text, encoding="utf-8")
    return read_pairs(path)


def test_pairs(tmp_path: Path, ending: str) -> None:
    found = imported(
        tmp_path,
        ending,
        [
            {"user": " q ", "bot": "a\nb"},
            {"user": "q", "bot": "a", "conversation": "c", "turn": 2, "source": "s"},
            {"質問": "q", "回答": "a", "other": [1]},
        ],
    )
    assert found.pairs == (Pair("q", "a\nb"), Pair("q", "a", "c", 2, "s"), Pair("q", "a"))
    assert found.rows == 3


def test_messages(tmp_path: Path, ending: str) -> None:
    system = {"role": "system", "content": "Be kind."}
    found = imported(
        tmp_path,
        ending,
        [
            {"messages": [system, *said("q", "a")]},
            {"messages": said("q", "a", "q2", "a2")},
            {"messages": said("q", "a", "q2", "a2"), "conversation": "c", "turn": 4, "source": "s"},
            {"messages": [*said("q", "a"), {"role": "assistant", "content": "b"}]},
        ],
    )
    name = f"talks{ending}#2"
    assert found.pairs == (
        Pair("q", "a"),
        Pair("q", "a", name, 1),
        Pair("q2", "a2", name, 2),
        Pair("q", "a", "c", 4, "s"),
        Pair("q2", "a2", "c", 5, "s"),
        Pair("q", "a b"),
    )
    assert found.joined == (JoinedText(4, "a b"),)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (1, NOT_A_RECORD),
        ({"user": "q"}, NOT_A_RECORD),
        ({"user": "q", "bot": 1}, NOT_A_RECORD),
        ({"user": "q", "bot": " "}, "There is no text of the bot."),
        ({"user": "q", "bot": "\ud800"}, "There are characters that cannot be read"),
        ({"user": "q", "bot": "a", "conversation": "c", "turn": "1"}, "The turn “1”"),
        ({"user": "q", "bot": "a", "source": "s" * 201}, "The name of a conversation"),
        ({"messages": []}, "There is no message."),
        ({"messages": None}, "A message is no text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "A message is no text"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "A message is no text"),
        ({"messages": said("q")}, MISSING_BOT_TEXT),
        ({"messages": said("a", first="bot")}, MISSING_USER_TEXT),
    ],
)
def test_a_wrong_record(tmp_path: Path, ending: str, record: Any, reason: str) -> None:
    found = imported(tmp_path, ending, [{"user": "q", "bot": "a"}, record])
    assert found.pairs == (Pair("q", "a"),)
    [problem] = found.errors
    assert problem.row == 2
    assert problem.reason.startswith(reason)


def test_a_line_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_bytes(b'\n{"user": "q", "bot": "a"}\r\n{"user"\n' + b"[" * 100_000)
    found = read_pairs(path)
    assert found.pairs == (Pair("q", "a"),)
    assert found.errors == tuple(RowError(n, "This line is no JSON.") for n in (3, 4))


def corpus(tmp_path: Path, text: str) -> ImportResult:
    path = tmp_path / "greetings.yml"
    path.write_text(text, encoding="utf-8")
    return read_pairs(path)


def test_a_corpus(tmp_path: Path) -> None:
    found = corpus(
        tmp_path,
        "categories:\n- greetings\nconversations:\n- - Hello\n  - Yes\n"
        "- - One?\n  - 1.50\n  - 二?\n  - |\n    two\n    lines\n",
    )
    assert found.pairs == (
        Pair("Hello", "Yes"),
        Pair("One?", "1.50", "greetings.yml#2", 1),
        Pair("二?", "two\nlines", "greetings.yml#2", 2),
    )
    assert found.rows == 2


def test_wrong_conversations_of_a_corpus(tmp_path: Path) -> None:
    found = corpus(
        tmp_path,
        "conversations:\n- - q\n  - a\n  - left over\n- alone\n- - q\n  - key: value\n"
        "- - q\n  - b\n",
    )
    assert found.pairs == (Pair("q", "a"), Pair("q", "b"))
    assert [one.row for one in found.errors] == [4, 5, 7]


def test_details_that_do_not_fit_are_ignored(tmp_path: Path) -> None:
    found = corpus(tmp_path, "conversations:\n- - q\n  - a\ndetails:\n- {source: s}\n- {}\n")
    assert found.pairs == (Pair("q", "a"),)
    assert "ignored" in found.errors[0].reason


def test_the_corpus_itself() -> None:
    chatterbot_corpus = pytest.importorskip("chatterbot_corpus")
    path = Path(chatterbot_corpus.__file__).parent / "data" / "english" / "greetings.yml"
    found = read_pairs(path)
    assert len(found.pairs) > 20
    assert found.errors == ()

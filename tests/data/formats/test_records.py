"""JSON, JSON lines and the YAML of chatterbot-corpus."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from core.records import Pair
from data.formats.files import read_pairs
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.records import NOT_A_RECORD, NOT_LEARNED
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
            {"user": "q", "bot": "a", "also": "r; s", "source": "t"},
            {"user": "q", "bot": "a", "also_asked_as": ["r", "s"]},
        ],
    )
    assert found.pairs == (
        Pair("q", "a\nb"),
        Pair("q", "a", "c", 2, "s"),
        Pair("q", "a"),
        *(Pair(question, "a", source="t") for question in "qrs"),
        *(Pair(question, "a") for question in "qrs"),
    )
    assert found.rows == 5


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


def chat(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


PARTS = [{"type": "text", "text": "Where is"}, {"type": "text", "text": "the harbour?"}]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "sun"}


@pytest.mark.parametrize(
    ("record", "pairs"),
    [
        (
            {"instruction": "Name it.", "input": "", "output": "North Lamp."},
            ["Name it.", "North Lamp."],
        ),
        (
            {"instruction": "Translate.", "input": "Good", "output": "Bon"},
            ["Translate. Good", "Bon"],
        ),
        (
            {"input": "Good", "instruction": "Translate.", "output": "Bon"},
            ["Translate. Good", "Bon"],
        ),
        ({"instruction": "訳して。", "input": None, "output": "はい"}, ["訳して。", "はい"]),
        (
            {"instruction": "q3", "output": "a3", "history": [["q1", "a1"], ["q2", "a2"]]},
            ["q1", "a1", "q2", "a2", "q3", "a3"],
        ),
        ({"user_name": "ada", "user": "ada", "question": "q", "answer": "a"}, ["q", "a"]),
        ({"question": "How many?", "answer": 3}, ["How many?", "3"]),
        ({"question": 1.50, "answer": True}, ["1.5", "TRUE"]),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            ["q", "a"],
        ),
        (
            {
                "id": "c1",
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "Human", "value": "q", "weight": 0},
                    {"from": "function_call", "value": "{}"},
                    {"from": "observation", "value": "{}"},
                    {"from": "gpt", "value": "a"},
                ],
            },
            ["q", "a"],
        ),
        ({"conversation": chat(("user", "q"), ("assistant", "a"))}, ["q", "a"]),
        (
            {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a"))},
            ["q", "a"],
        ),
        (
            {"messages": chat(("developer", "Be kind."), ("user", PARTS), ("assistant", "a"))},
            ["Where is the harbour?", "a"],
        ),
        (
            {"messages": [*chat(("user", "q")), CALL, RESULT, *chat(("assistant", "Sunny."))]},
            ["q", "Sunny."],
        ),
        (
            {
                "messages": [
                    *chat(("user", "q")),
                    CALL,
                    RESULT,
                    *chat(("user", "q2"), ("assistant", "a2")),
                ]
            },
            ["q2", "a2"],
        ),
        ({"messages": [*chat(("user", "q")), CALL]}, []),
        ({"messages": chat(("user", "How many?"), ("assistant", 3))}, ["How many?", "3"]),
        (
            {"conversations": [{"from": "human", "value": 1.5}, {"from": "gpt", "value": 2}]},
            ["1.5", "2"],
        ),
        (
            {
                "messages": [
                    *chat(("user", "q")),
                    {"role": "assistant", "content": "bad", "weight": 0},
                    *chat(("user", "q2")),
                    {"role": "assistant", "content": "a2", "weight": 1},
                ]
            },
            ["q2", "a2"],
        ),
        ({"prompt": "q", "completion": "a", "label": False}, []),
    ],
)
def test_the_forms_of_other_data_sets(
    tmp_path: Path, ending: str, record: Any, pairs: list[str]
) -> None:
    found = imported(tmp_path, ending, [record])
    assert [text for one in found.pairs for text in (one.user, one.bot)] == pairs
    assert found.errors == ()


def test_what_is_not_learned_is_told(tmp_path: Path, ending: str) -> None:
    unwanted = {"role": "assistant", "content": "bad", "weight": 0}
    found = imported(tmp_path, ending, [{"messages": [*chat(("user", "q")), unwanted]}] * 3)
    assert found.pairs == found.errors == ()
    assert found.notes == (NOT_LEARNED,)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (1, NOT_A_RECORD),
        ({"user": "q"}, NOT_A_RECORD),
        ({"user": "q", "bot": [1]}, NOT_A_RECORD),
        ({"user": "q", "bot": {"text": "a"}}, NOT_A_RECORD),
        ({"user": "q", "bot": None}, "There is no text of the bot."),
        ({"user": "q", "bot": float("nan")}, "There is no text of the bot."),
        ({"user": "q", "bot": "\0"}, "There are characters that cannot be read"),
        ({"user": "q", "bot": " "}, "There is no text of the bot."),
        ({"user": "q", "bot": "\ud800"}, "There are characters that cannot be read"),
        ({"user": "q", "bot": "a", "conversation": "c", "turn": "1.5"}, "The turn “1.5”"),
        ({"user": "q", "bot": "a", "source": "s" * 201}, "The name of a conversation"),
        ({"messages": []}, "There is no message."),
        ({"messages": None}, "A message is no text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "There is no message."),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "A message is no text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "A message is no text",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "A message is no text"),
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


@pytest.mark.parametrize("turn", [1.0, "1", "1.0", 1])
def test_whole_turns(tmp_path: Path, ending: str, turn: Any) -> None:
    record = {"user": "q", "bot": "a", "conversation": "c", "turn": turn, "source": math.nan}
    assert imported(tmp_path, ending, [record]).pairs == (Pair("q", "a", "c", 1),)
    (tmp_path / "a.csv").write_text(f"user,bot,conversation,turn\nq,a,c,{turn}\n")
    assert read_pairs(tmp_path / "a.csv").pairs == (Pair("q", "a", "c", 1),)


def test_missing_details(tmp_path: Path, ending: str) -> None:
    records = [
        {"user": "q", "bot": "a", "conversation": math.nan, "turn": math.nan, "source": math.nan},
        {"user": "q2", "bot": "a", "conversation": "c", "turn": math.nan},
    ]
    found = imported(tmp_path, ending, records)
    assert found.pairs == (Pair("q", "a"), Pair("q2", "a", "c", 1))

"""The formats of the conversations that the embedded model was made from."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from core.records import Conversation, Role
from training.corpora import ENGLISH_TOPICS, chatterbot, chitchat, json_lines, self_dialogue

TURNS = ["Hi,  there’s a film?", "Yes…", "Good."]


def texts(conversations: list[Conversation]) -> list[list[str]]:
    return [[one.content for one in turns] for turns in conversations]


def test_a_clone_of_the_self_dialogue_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "corpus" / "movies"
    folder.mkdir(parents=True)
    rows = [
        {"Reject": "", **{f"Answer.sentence{n}": t for n, t in enumerate(TURNS, 1)}},
        {"Reject": "too short", "Answer.sentence1": "no", "Answer.sentence2": "no"},
    ]
    with (folder / "movies.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["Reject", *(f"Answer.sentence{n}" for n in range(1, 4))])
        writer.writeheader()
        writer.writerows(rows)
    [turns] = self_dialogue(tmp_path)
    assert [one.role for one in turns] == [Role.USER, Role.ASSISTANT, Role.USER]
    assert [one.content for one in turns] == ["Hi, there's a film?", "Yes...", "Good."]


@pytest.mark.parametrize("name", ["talk.jsonl", "talk.jsonl.gz"])
def test_json_lines_packed_or_not(name: str, tmp_path: Path) -> None:
    kept = ["hello", "hi"]
    left_out = [["alone"], ["hello", "what the fuck"], ["hello", "x" * 301], ["hello", " "]]
    lines = "".join(
        json.dumps({"messages": [{"content": text} for text in turns]}) + "\n"
        for turns in [kept, *left_out]
    )
    path = tmp_path / name
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    assert texts(list(self_dialogue(path))) == [kept]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`chatterbot-corpus` with two questions, in the folders of the real one."""
    package = ModuleType("chatterbot_corpus")
    package.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, package.__name__, package)
    for language, topic, turns in [
        ("japanese", "food", ["何が好き？", "寿司です。"]),
        ("japanese", "ai", ["AIとは？", "機械です。"]),
        *(("english", topic, [topic, 42]) for topic in (*ENGLISH_TOPICS, "politics")),
    ]:
        file = tmp_path / "data" / language / f"{topic}.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        record = {"categories": [topic], "conversations": [turns, ["alone"]]}
        file.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("corpus")
def test_a_language_of_the_chatterbot_corpus() -> None:
    food, ai = ["何が好き？", "寿司です。"], ["AIとは？", "機械です。"]
    assert texts(list(chatterbot(language="japanese"))) == [ai, food]
    assert texts(list(chatterbot(["food"], "japanese"))) == [food]


@pytest.mark.usefixtures("corpus")
def test_english_has_a_choice_of_topics() -> None:
    assert texts(list(chatterbot())) == [[topic, "42"] for topic in ENGLISH_TOPICS]
    assert texts(list(chatterbot(["politics"]))) == [["politics", "42"]]


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize(("topics", "language"), [(None, "klingon"), (["klingon"], "japanese")])
def test_a_language_or_topic_that_is_not_there(topics: list[str] | None, language: str) -> None:
    with pytest.raises(FileNotFoundError):
        list(chatterbot(topics, language))


def test_chitchat_as_its_package_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("chitchat_dataset")
    package.ConversationDataset = lambda: [iter(["Hi ", "Hello!"]), iter(["alone"])]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    assert texts(list(chitchat())) == [["Hi", "Hello!"]]


def test_japanese_talk_keeps_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    turns = ["今日は“寒い”ですね…", "そうですね〜！"]
    lines = [turns, ["一言だけ"]]
    path.write_text(
        "".join(json.dumps({"messages": [{"content": t} for t in one]}) + "\n" for one in lines)
    )
    assert texts(list(json_lines(path))) == [turns]

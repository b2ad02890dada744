"""The formats of the conversations that the embedded model was made from."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from data.schema import Conversation, Role
from training.corpora import self_dialogue

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

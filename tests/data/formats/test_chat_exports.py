"""The exports of chat programs are named, and nothing of them is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from core.errors import ImportRefused
from data.formats.files import read_pairs

DISCORD = 'AuthorID,Author,Date,Content,Attachments,Reactions\n"1","ada","2024-01-05","Hi",,\n'
SLACK_THREAD = {"user": "U1", "text": "Hi", "ts": "1.0", "replies": [{"user": "U2", "ts": "2.0"}]}
SLACK: list[Any] = [{"type": "message", "user": "U1", "text": "Hi", "ts": "1704448800.000100"}]
TELEGRAM = {
    "name": "g",
    "type": "personal_chat",
    "messages": [{"id": 1, "type": "message", "date": "2024", "from": "ada", "text": "Hi"}],
}
MESSENGER = {
    "participants": [{"name": "ada"}],
    "messages": [{"sender_name": "ada", "timestamp_ms": 1, "content": "Hi"}],
}
EXPORTS = [
    ("a.csv", DISCORD, "Discord"),
    ("a.csv", "ID,Timestamp,Contents,Attachments\n1,2024-01-05,Hi,\n", "Discord"),
    ("a.txt", f"{'=' * 62}\nGuild: g\nChannel: c\n{'=' * 62}\n", "Discord"),
    ("a.csv", "[01/05/2024 10:00] ada\nHi\n\n[01/05/2024 10:01] ben\nHo\n", "Discord"),
    ("a.html", "<!DOCTYPE html>\n<title>g</title><div class=chatlog__message-group>", "Discord"),
    ("a.json", json.dumps({"guild": {}, "channel": {}, "messages": []}), "Discord"),
    ("a.txt", "[LINE] Chat history with ada\nSaved on: 2024/01/05 10:00\n", "LINE"),
    ("a.csv", "\ufeff[LINE] adaとのトーク履歴\n保存日時：2024/01/05 10:00\n", "LINE"),
    ("a.txt", "adaとのトーク履歴\n保存日時：2024/01/05\n", "LINE"),
    ("a.csv", "2024.01.05 Friday\n10:00\tada\tHi\n10:01\tben\tHo\n", "LINE"),
    (
        "a.csv",
        "アカウント名,店\n\n送信者タイプ,送信者名,送信日付,送信時刻,内容\nUser,ada,2024/01/05,10:00,Hi\n",
        "chat",
    ),
    ("a.txt", "1/5/24, 10:00 - ada: Hi\n1/5/24, 10:01 - ben: Ho\n", "WhatsApp"),
    ("a.csv", "[05.01.24, 10:00:00] ada: Hi\n[05.01.24, 10:00:09] ben: Ho\n", "WhatsApp"),
    ("a.csv", "1/5/24, 10:00\u202fPM - ada: Hi\n1/5/24, 10:01 p. m. - ben: Ho\n", "WhatsApp"),
    ("a.json", json.dumps(SLACK), "Slack"),
    ("a.jsonl", json.dumps(SLACK[0]), "Slack"),
    ("a.jsonl", json.dumps(SLACK_THREAD), "Slack"),
    ("a.json", json.dumps(TELEGRAM), "a chat program"),
    ("a.json", json.dumps(MESSENGER), "a chat program"),
    ("a.json", json.dumps([{"title": "t", "create_time": 1, "mapping": {}}]), "ChatGPT"),
    ("a.json", json.dumps([{"author": "ada", "timestamp": 1, "content": "Hi"}]), "a chat program"),
    ("a.csv", "Date,User,Message\n2024,ada,Hi\n", "a chat program"),
    ("a.csv", "Time;Name;Text\n10:00;ada;Hi\n", "a chat program"),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
@pytest.mark.parametrize(("name", "content", "program"), EXPORTS)
def test_an_export_is_named(
    tmp_path: Path, name: str, content: str, program: str, encoding: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    with pytest.raises(ImportRefused, match=f"is an export of chat messages from .*{program}"):
        read_pairs(path)


def test_an_export_in_a_workbook(tmp_path: Path) -> None:
    book = Workbook()
    for row in (["Author", "Date", "Content"], ["ada", "2024-01-05", "Hi"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(ImportRefused, match="is an export of chat messages"):
        read_pairs(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    "content",
    [
        "author,date,content,question,answer\nada,2024,x,q,a\n",
        "question,answer\n10:00,[LINE] opens\n",
        "Is it 10:00?,Yes: 10:00\n",
        "date,question,answer\n2024-01-05 10:00,When do you open?,Answer: at nine.\n" * 2,
        "2024-01-05 10:00,When do you open?,Answer: at nine.\n" * 2,
        "time\tquestion\tanswer\n2024/01/05\n" + "10:00\tOpening\tDoors open\n" * 2,
        "10:00\tOpening\tDoors open\n" * 2,
        "日付,名前,内容,Q.質問,A.回答\n2024,ada,x,q,a\n",
    ],
)
def test_pairs_are_no_export(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    assert read_pairs(tmp_path / "a.csv").pairs


MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    "record",
    [
        {"user_id": "42", "created_at": "2024", "messages": MESSAGES},
        {"user": "ada", "created_at": "2024", "messages": MESSAGES},
        {"date": "2024", "name": "ada", "text": "x", "conversations": SHAREGPT},
        {"user": "q", "bot": "a", "timestamp": 1, "text": "x"},
        {"name": "ada", "date": "2024", "question": "q", "answer": "a", "content": "x"},
        {"instruction": "q", "output": "a", "username": "ada", "created_at": 1, "text": "x"},
        {"prompt": MESSAGES[:1], "completion": MESSAGES[1:], "user": 1, "date": 2, "text": "x"},
    ],
)
def test_records_of_pairs_may_say_who_and_when(
    tmp_path: Path, record: dict[str, Any], suffix: str
) -> None:
    records = [record, record]
    text = json.dumps(records) if suffix == ".json" else "\n".join(map(json.dumps, records))
    (tmp_path / f"a{suffix}").write_text(text, encoding="utf-8")
    found = read_pairs(tmp_path / f"a{suffix}")
    assert [(pair.user, pair.bot) for pair in found.pairs] == [("q", "a")] * 2

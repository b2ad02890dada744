"""What is wrong with a file, for people who read Japanese: from the child process to the copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ImportRefused
from data.formats.sandbox.client import read_in_subprocess
from i18n.reader import say, use_language


async def test_wrong_rows_are_explained_in_japanese(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("user,bot,conversation,turn\nq,a,,\nq,a,c,zero\nq,,,\n", encoding="utf-8")
    with use_language("ja"):
        staged = await read_in_subprocess(path, tmp_path)
    assert [one.reason for one in staged.summary.first_errors] == [
        "The turn “zero” is no whole number from 1.",
        "The bot's text is missing.",
    ]
    assert staged.marked_copy is not None
    marked = staged.marked_copy.read_text(encoding="utf-8-sig").splitlines()
    assert marked[2:] == [
        "q,a,c,zero,番号「zero」は1以上の整数ではありません。",
        "q,,,,ボットの文がありません。",
    ]


async def test_a_refused_file_is_explained_in_japanese(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text("{}")
    with pytest.raises(ImportRefused) as refused:
        await read_in_subprocess(path, tmp_path)
    with use_language("ja"):
        told = say(refused.value.args[0])
    assert told == 'pairs.json は {"user": …, "bot": …} のリストにしてください。'

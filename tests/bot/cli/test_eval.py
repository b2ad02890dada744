"""`gpt2bot eval` as people run it: in a process of its own, with the real worker and `tiny`."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.records import GoldenKind, GoldenQuestion, GoldenScore
from data.storage.storage import open_storage
from tests.bot.cli.command import Command
from tests.bot.cli.test_main import assert_one_sentence
from tests.databases import put_empty_database

SERVER = 42


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "var").mkdir()
    path = tmp_path / "var" / "gpt2bot.sqlite3"
    asyncio.run(put_empty_database(path))
    return path


def add(database: Path, kind: GoldenKind, expected: str, passed_before: bool | None) -> None:
    async def store() -> None:
        async with open_storage(database) as storage:
            new = GoldenQuestion(0, SERVER, "How are you?", kind, expected, 3)
            added = await storage.golden.add(new)
            assert added is not None
            if passed_before is not None:
                good, now = 5 * passed_before, datetime.now(UTC)
                score = GoldenScore(added.id, "tiny", good, good, 3, now)
                await storage.golden.record(SERVER, [score])

    asyncio.run(store())


@pytest.mark.slow
def test_one_that_was_passed_and_is_failed_now(gpt2bot: Command, database: Path) -> None:
    """`--json` for programs first, with the status 1; then the table: it was failed before now."""
    add(database, GoldenKind.WITHOUT, "no model says this", None)
    add(database, GoldenKind.CONTAIN, "no model says this either", passed_before=True)
    ended = gpt2bot("eval", "--server", str(SERVER), "--json", DEFAULT_MODEL="tiny")
    assert ended.returncode == 1, ended.stderr
    shown = json.loads(ended.stdout)
    assert {name: shown[name] for name in ("server", "model", "passed", "asked")} == {
        "server": SERVER,
        "model": "tiny",
        "passed": 1,
        "asked": 2,
    }
    assert shown["regressions"] == [2]
    first, second = shown["questions"]
    assert (first["alone"], first["in_talk"], first["passed_before"]) == (5, 5, None)
    assert (second["kind"], second["passed"], second["passed_before"]) == ("contain", False, True)
    assert second["said"]
    said = ("eval", "--server", str(SERVER), "--model", "tiny")
    again = gpt2bot(*said, DEFAULT_MODEL="tiny", COLUMNS="200")
    assert again.returncode == 0, again.stderr
    assert "Golden questions: tiny" in again.stdout
    assert "1 of 2 passed." in again.stdout
    assert "failed: “" in again.stdout


def test_what_is_not_there_is_one_sentence(gpt2bot: Command, tmp_path: Path) -> None:
    assert_one_sentence(gpt2bot("eval", "--server", "42"), "There is no database")
    (tmp_path / "var").mkdir()
    database = tmp_path / "var" / "gpt2bot.sqlite3"
    asyncio.run(put_empty_database(database))
    none = gpt2bot("eval", "--server", "42")
    assert_one_sentence(none, "The server 42 has no golden question")
    add(database, GoldenKind.CONTAIN, "fine", None)
    assert_one_sentence(gpt2bot("eval", "--server", "42", "--model", "gpt9"), "gpt9")

"""`gpt2bot backup` and `gpt2bot restore` as people run them, beside a bot that chats."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.ops.recovery import single_instance_lock
from bot.settings import Settings
from tests.bot.cli.command import Command
from tests.bot.cli.test_main import assert_one_sentence
from tests.bot.conftest import World
from tests.builds import put_built_tiny
from tests.data.storage.databases import heard, write


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in the home where the command looks, left by a bot that was killed."""
    (tmp_path / "var").mkdir()
    write(tmp_path / "var" / "gpt2bot.sqlite3", "hello")
    return tmp_path / "var" / "gpt2bot.sqlite3"


def only(folder: Path, pattern: str) -> Path:
    [found] = folder.glob(pattern)
    return found


async def test_beside_a_running_bot(world: World, settings: Settings, gpt2bot: Command) -> None:
    with single_instance_lock(settings):
        await world.say(world.ben, "before")
        copying = asyncio.create_task(asyncio.to_thread(gpt2bot, "backup"))
        while not copying.done():
            await world.say(world.ben, "meanwhile")
        done = await copying
        backup = only(world.home, "backups/*")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"`gpt2bot restore {backup}` restores it." in done.stdout
        assert (
            "Backups contain what members said, even if their data is erased later" in done.stdout
        )
        assert heard(backup)[:2] == ["before", "you said before"]

        restored = await asyncio.to_thread(gpt2bot, "restore", str(backup))
        assert_one_sentence(restored, f"The bot is running on {world.home}: stop it first")
        second = await asyncio.to_thread(gpt2bot, "run", DISCORD_TOKEN="x.y.z")
        assert_one_sentence(second, f"A bot is already running on {world.home}: stop it first")
        assert heard(world.home / "gpt2bot.sqlite3").count("before") == 1


def test_there_and_back(gpt2bot: Command, database: Path, tmp_path: Path) -> None:
    assert gpt2bot("backup", "copy.sqlite3").returncode == 0
    assert heard(tmp_path / "copy.sqlite3") == ["hello"]
    assert_one_sentence(gpt2bot("backup", "copy.sqlite3"), "already exists")
    done = gpt2bot("restore", "copy.sqlite3")
    assert (done.returncode, done.stderr) == (0, "")
    aside = only(tmp_path, "var/*before-restore*")
    assert f"The previous one is kept as {aside}.\n" in done.stdout
    assert "Members who asked to be forgotten are erased again" in done.stdout
    assert heard(database) == heard(aside) == ["hello"]


def test_the_oldest_go(gpt2bot: Command, database: Path) -> None:
    first = gpt2bot("backup", "--keep", "1")
    oldest = only(database.parent, "backups/*")
    second = gpt2bot("backup", "--keep", "1")
    assert "Removed" not in first.stdout
    assert f"Removed the older {oldest.name}.\n" in second.stdout
    assert only(database.parent, "backups/*") != oldest


def test_without_a_database(gpt2bot: Command) -> None:
    assert_one_sentence(gpt2bot("backup"), "There is no database")


def test_what_is_no_backup(gpt2bot: Command, database: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("my notes")
    assert_one_sentence(gpt2bot("restore", "notes"), "notes is not a backup")
    assert_one_sentence(gpt2bot("restore", "nothing"), "nothing cannot be opened: No such file")
    assert heard(database) == ["hello"]


def test_with_a_key(gpt2bot: Command, database: Path, tmp_path: Path) -> None:
    """A database becomes encrypted, and every command says what a wrong key means."""
    run = {"DISCORD_TOKEN": "x.y.z", "DEFAULT_MODEL": "tiny"}
    assert_one_sentence(gpt2bot("run", DATABASE_KEY="right", **run), "is not encrypted yet: run")
    assert gpt2bot("backup", "encrypted.sqlite3", DATABASE_KEY="right").returncode == 0
    assert gpt2bot("restore", "encrypted.sqlite3", DATABASE_KEY="right").returncode == 0
    for file in (tmp_path / "encrypted.sqlite3", database):
        assert not file.read_bytes().startswith(b"SQLite")

    wrong = "cannot be read with this DATABASE_KEY"
    assert_one_sentence(gpt2bot("backup", DATABASE_KEY="wrong"), wrong)
    assert_one_sentence(gpt2bot("restore", "encrypted.sqlite3", DATABASE_KEY="wrong"), wrong)
    assert_one_sentence(gpt2bot("run", DATABASE_KEY="wrong", **run), wrong)
    put_built_tiny(database.parent)
    assert wrong in " ".join(gpt2bot("doctor", DATABASE_KEY="wrong").stdout.split())
    assert "It is intact" in gpt2bot("doctor", DATABASE_KEY="right").stdout

    assert_one_sentence(gpt2bot("backup"), "is not a database: move it away")
    assert_one_sentence(gpt2bot("restore", "encrypted.sqlite3"), "needs DATABASE_KEY")
    assert [one.name for one in database.parent.glob("*damaged*")] == []

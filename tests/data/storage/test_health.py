"""A database is looked at, and stays as it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from core.errors import NewerDatabase, StoreError
from data.storage.health import DatabaseHealth, inspect_database
from data.storage.migrations import SCHEMA_VERSION
from data.storage.storage import Storage, open_storage


def contents(folder: Path) -> dict[str, str]:
    """Every file and what is in it, but for the index of the log, where each reader puts a mark."""
    return {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith("-shm")
    }


async def filled(path: Path) -> None:
    async with open_storage(path) as storage:
        for n in range(500):
            await storage.channels.set_enabled(n, 1, True)


async def test_a_whole_one_is_left_as_it_is_and_nothing_beside_it(path: Path) -> None:
    await filled(path)
    before = contents(path.parent)
    assert inspect_database(path) == DatabaseHealth(SCHEMA_VERSION, path.stat().st_size)  # noqa: ASYNC240
    assert contents(path.parent) == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_none_is_made_where_there_is_none(path: Path) -> None:
    assert inspect_database(path) is None
    assert list(path.parent.iterdir()) == []


async def test_beside_a_bot_that_writes(storage: Storage, path: Path) -> None:
    await storage.channels.set_enabled(1, 1, True)
    before = contents(path.parent)
    assert inspect_database(path) is not None
    assert contents(path.parent) == before
    await storage.channels.set_enabled(2, 1, True)
    assert await storage.channels.enabled() == {1, 2}


async def test_what_a_killed_bot_left_is_read_with_its_log(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "killed"
    copy.mkdir()
    async with open_storage(path) as storage:
        await storage.channels.set_enabled(1, 1, True)
        for one in path.parent.glob(f"{path.name}*"):
            (copy / one.name).write_bytes(one.read_bytes())
    before = contents(copy)
    assert f"{path.name}-wal" in before
    assert inspect_database(copy / path.name) is not None
    assert contents(copy) == before
    async with open_storage(copy / path.name) as storage:
        assert await storage.channels.enabled() == {1}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """Other bytes in all pages but the first."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes([7]) * (size - 4096))


@pytest.mark.parametrize("damage", [cut, overwrite])
async def test_damage_is_told(path: Path, damage: Callable[[Path], None]) -> None:
    await filled(path)
    damage(path)
    with pytest.raises(StoreError, match="is damaged: put a backup back"):
        inspect_database(path)


def test_another_file_is_no_database(path: Path) -> None:
    path.write_text("my diary")
    with pytest.raises(StoreError, match="is not a database"):
        inspect_database(path)


def test_a_newer_one(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 9999")
    with pytest.raises(NewerDatabase, match="a newer version"):
        inspect_database(path)


def test_an_older_one_is_whole(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")
        db.execute("PRAGMA user_version = 1")
    found = inspect_database(path)
    assert found is not None
    assert found.schema_version == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
async def test_one_that_cannot_be_written(path: Path) -> None:
    await filled(path)
    path.chmod(0o400)  # noqa: ASYNC240
    with pytest.raises(StoreError, match="cannot be written: give the bot permission"):
        inspect_database(path)


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        inspect_database(path)

"""A database with a key: nothing of it can be read without, and all else is as without one."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import CorruptDatabase, StoreError
from data.storage.backup import create_backup, restore
from data.storage.connection import make_copy
from data.storage.files import integrity_problem
from data.storage.health import inspect_database
from data.storage.migrations import SCHEMA_VERSION
from data.storage.sqlite import open_sqlite
from data.storage.storage import open_storage
from tests.data.storage.databases import damage, heard, write
from tests.data.storage.records import CHANNEL, said

KEY = "it's a long key, with a quotation mark"
WRONG_KEY = "The database cannot be read with this DATABASE_KEY"
SECRET = "marmalade"
ROUNDS = 256_000
"""Of the hash from which SQLCipher makes a key by default; they take 0.14 s at each opening."""


@pytest.fixture(autouse=True)
def _fewer_rounds() -> Iterator[None]:
    """`tests/bot/cli/test_backup.py` opens databases with all of them."""
    with closing(open_sqlite(":memory:", KEY)) as db:  # the default is the whole process's
        db.execute("PRAGMA cipher_default_kdf_iter = 1000")
        yield
        db.execute(f"PRAGMA cipher_default_kdf_iter = {ROUNDS}")


async def fill(path: Path, text: str, key: str | None = KEY) -> None:
    async with open_storage(path, key=key) as storage:
        for n in range(1, 200):
            await storage.messages.add(said(n, f"{text} {n}"))


def read(path: Path, key: str = KEY) -> list[str]:
    """What an encrypted database holds, once all of it was checked."""
    with closing(open_sqlite(path, key)) as db:
        assert integrity_problem(db) is None
        return [row[0] for row in db.execute("SELECT content FROM messages ORDER BY id")]


def written(folder: Path) -> bytes:
    """All that is on the disk."""
    return b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())


async def test_what_was_said_is_read_back_and_is_nowhere_on_the_disk(path: Path) -> None:
    async with open_storage(path, key=KEY) as storage:
        await storage.messages.add(said(1, SECRET))
        assert path.with_name(f"{path.name}-wal").exists()
        assert SECRET.encode() not in written(path.parent)
        assert b"messages" not in written(path.parent)
        [stored] = await storage.messages.context(CHANNEL, 5)
        assert stored.message.content == SECRET
    assert inspect_database(path, KEY) is not None
    assert b"SQLite format" not in written(path.parent)


async def test_a_backup_is_encrypted_and_can_be_restored(path: Path) -> None:
    await fill(path, SECRET)
    backup = create_backup(path, keep=7, key=KEY).path
    before = read(path)
    assert len(before) == 199
    assert read(backup) == before
    assert SECRET.encode() not in written(path.parent)
    async with open_storage(path, key=KEY) as storage:
        await storage.messages.add(said(1000, "later"))
    aside = restore(backup, path, KEY)
    assert aside is not None
    assert read(path) == before
    assert read(aside) == [*before, "later"]


async def test_a_database_without_a_key_gets_one_through_a_backup(path: Path) -> None:
    write(path, "hello")
    with pytest.raises(StoreError, match="is not encrypted yet: run `gpt2bot backup FILE`"):
        await fill(path, SECRET)
    make_copy(path, backup := path.parent / "copy.sqlite3", KEY)
    assert heard(path) == read(backup) == ["hello"]
    aside = restore(backup, path, KEY)
    assert aside is not None
    assert heard(aside) == read(path) == ["hello"]
    health = inspect_database(path, KEY)
    assert health is not None
    assert health.schema_version == SCHEMA_VERSION
    async with open_storage(path, key=KEY) as storage:  # with its triggers and indexes
        await storage.audit.record(1, 2, "pause")
        with pytest.raises(StoreError, match="what was done stays written"):
            await storage._execute("DELETE FROM audit")


@pytest.mark.parametrize("key", ["another", None])
async def test_another_key_or_none_opens_nothing_and_changes_nothing(
    path: Path, key: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    await fill(path, SECRET)
    backup = create_backup(path, keep=7, key=KEY).path
    before = written(path.parent)
    sentence = WRONG_KEY if key else "DATABASE_KEY"
    with pytest.raises(StoreError, match=sentence):
        await fill(path, "new", key)
    with pytest.raises(StoreError, match=sentence):
        create_backup(path, keep=7, key=key)
    with pytest.raises(StoreError, match=sentence):
        restore(backup, path, key)
    with pytest.raises(StoreError, match=sentence):
        inspect_database(path, key)
    assert written(path.parent) == before
    assert capfd.readouterr() == ("", "")


async def test_a_backup_takes_the_place_of_a_database_whose_key_is_lost(path: Path) -> None:
    write(path, "hello")
    make_copy(path, backup := path.parent / "copy.sqlite3")
    path = path.with_name("encrypted.sqlite3")
    await fill(path, SECRET, "lost")
    aside = restore(backup, path, KEY)
    assert read(path) == ["hello"]
    assert aside is not None
    assert len(read(aside, "lost")) == 199


async def test_damage_is_told(path: Path) -> None:
    await fill(path, SECRET)
    damage(path)
    with pytest.raises(CorruptDatabase, match="is damaged"):
        create_backup(path, keep=7, key=KEY)
    with pytest.raises(StoreError, match="is damaged"):
        inspect_database(path, KEY)


@pytest.fixture
def without_sqlcipher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sqlcipher3", "sqlcipher3.dbapi2"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_sqlcipher")
async def test_what_encrypts_is_optional(path: Path) -> None:
    with pytest.raises(StoreError, match="uv sync --extra encryption"):
        await fill(path, SECRET)
    path = path.with_name("plain.sqlite3")
    await fill(path, "hello", None)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM messages").fetchone() == (199,)

"""Backups and putting them back: whole, whatever else is going on."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from core.errors import CorruptDatabase, NewerDatabase, StoreError
from data.storage.backup import BackupResult, create_backup, newest_backup, restore
from data.storage.connection import make_copy
from data.storage.migrations import SCHEMA_VERSION
from data.storage.storage import open_storage
from tests.data.storage.databases import damage, empty_log, heard, write
from tests.data.storage.records import CHANNEL, said

ROOT = Path(__file__).parents[3]
WRITER = """
import asyncio, sys
from itertools import count
from pathlib import Path
from data.storage.storage import open_storage
from tests.data.storage.records import said

async def main():
    async with open_storage(Path(sys.argv[1])) as storage:
        for n in count(1):
            await storage.messages.add(said(n, f"message {n}" + "x" * 3000))
            if n == 2000:  # several steps of a copy
                print("ready", flush=True)

asyncio.run(main())
"""


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another process writes to the database all the time."""
    command = [sys.executable, "-c", WRITER, path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == b"ready\n"
            yield
            assert writer.poll() is None, "it stopped writing"
        finally:
            writer.kill()


@pytest.fixture
def both(path: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A backup that holds “old”, and a database that holds “new”."""
    write(path, "old")
    backup = tmp_path / "backup.sqlite3"
    make_copy(path, backup)
    for ending in ("-wal", "-shm", ""):
        path.with_name(path.name + ending).unlink()
    write(path, "new")
    return backup, path


class TestBackUp:
    def test_while_another_process_writes(self, path: Path) -> None:
        with writing(path):
            made = create_backup(path, keep=7)
            first = heard(made.path)
            second = heard(create_backup(path, keep=7).path)
        assert 2000 <= len(first) < len(second), "others were not held up"
        said_then = [text.rstrip("x") for text in second]
        assert said_then == [f"message {n}" for n in range(1, len(second) + 1)]
        assert names(made.path.parent) == {made.path.name, newest_backup(path).name}

    def test_only_the_newest_are_kept_and_nothing_else_is_touched(self, path: Path) -> None:
        write(path, "hello")
        folder = path.parent / "backups"
        folder.mkdir()
        (folder / "mine.sqlite3").write_bytes(b"mine")
        made = [create_backup(path, keep=2) for _ in range(4)]
        kept = [one.path.name for one in made[2:]]
        assert names(folder) == {"mine.sqlite3", *kept}
        assert made[3] == BackupResult(made[3].path, [made[1].path])
        assert newest_backup(path) == made[3].path

    def test_it_is_one_file_for_its_owner_alone(self, path: Path) -> None:
        write(path, "hello")
        made = create_backup(path, keep=1).path
        assert heard(made) == ["hello"]
        assert made.stat().st_mode & 0o077 == 0
        assert names(made.parent) == {made.name}

    def test_a_damaged_database_makes_none_and_removes_none(self, path: Path) -> None:
        write(path, "hello")
        first = create_backup(path, keep=1).path
        empty_log(path)
        damage(path)
        with pytest.raises(CorruptDatabase, match="is damaged"):
            create_backup(path, keep=1)
        assert names(first.parent) == {first.name}

    def test_where_nothing_can_be_written(self, path: Path) -> None:
        write(path, "hello")
        (path.parent / "backups").write_text("a file")
        with pytest.raises(StoreError, match=r"could not be written: File exists\.$"):
            create_backup(path, keep=1)

    def test_what_a_killed_backup_left_goes_after_a_while(self, path: Path) -> None:
        write(path, "hello")
        folder = path.parent / "backups"
        folder.mkdir()
        old, young = (folder / f".gpt2bot-unfinished-{name}" for name in ("old", "young"))
        for left in (old, young):
            left.write_bytes(b"half")
        os.utime(old, (0, 0))
        create_backup(path, keep=1)
        assert (old.exists(), young.exists()) == (False, True)


class TestRestore:
    def test_the_backup_is_the_database_and_the_old_one_is_kept(
        self, both: tuple[Path, Path]
    ) -> None:
        backup, database = both
        aside = restore(backup, database)
        assert heard(database) == heard(backup) == ["old"]
        assert aside is not None
        assert aside.name.startswith("bot.sqlite3.before-restore-")
        assert heard(aside) == ["new"]
        assert names(database.parent) == {backup.name, database.name, aside.name}
        asyncio.run(use(database))
        assert heard(database) == ["old", "hello"]
        assert heard(aside) == ["new"], "they do not share a file"

    def test_where_there_was_none(self, both: tuple[Path, Path], tmp_path: Path) -> None:
        assert restore(both[0], tmp_path / "fresh.sqlite3") is None
        assert heard(tmp_path / "fresh.sqlite3") == ["old"]

    @pytest.mark.parametrize("all_of_it", [False, True], ids=["pages", "all of it"])
    def test_in_place_of_a_damaged_one(self, both: tuple[Path, Path], all_of_it: bool) -> None:
        backup, database = both
        empty_log(database)
        if all_of_it:
            database.write_bytes(b"not a database\n" * 1000)
        else:
            damage(database)
        damaged = database.read_bytes()
        aside = restore(backup, database)
        assert heard(database) == ["old"]
        assert aside is not None
        assert aside.read_bytes() == damaged

    def test_where_the_file_system_has_no_links(
        self, both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
        backup, database = both
        aside = restore(backup, database)
        assert aside is not None
        assert (heard(database), heard(aside)) == (["old"], ["new"])

    def test_what_is_no_backup_changes_nothing(self, both: tuple[Path, Path]) -> None:
        backup, database = both
        wrong = backup.with_name("wrong")
        self.refused(wrong, database, StoreError, "No such file")
        self.refused(backup.parent, database, StoreError, "Is a directory")
        self.refused(database, database, StoreError, "is the database itself")
        wrong.write_bytes(b"")
        self.refused(wrong, database, StoreError, "it is not a database")
        wrong.unlink()
        with closing(sqlite3.connect(wrong)) as db:
            db.execute("CREATE TABLE messages (x)")
        self.refused(wrong, database, StoreError, "the database of another program")
        wrong.write_bytes(backup.read_bytes())
        with closing(sqlite3.connect(wrong)) as db:
            db.execute("PRAGMA user_version = 0")
        self.refused(wrong, database, StoreError, "its version is missing")
        with closing(sqlite3.connect(wrong)) as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        self.refused(wrong, database, NewerDatabase, "written by a newer version")
        damage(wrong)
        self.refused(wrong, database, CorruptDatabase, "is damaged")

    def refused(self, backup: Path, database: Path, error: type[StoreError], sentence: str) -> None:
        before = names(database.parent)
        with pytest.raises(error, match=sentence):
            restore(backup, database)
        assert names(database.parent) - before <= {f"{backup.name}-wal", f"{backup.name}-shm"}
        assert heard(database) == ["new"]

    def test_a_database_that_is_in_use_stays(
        self, both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("data.storage.backup.BUSY_TIMEOUT_S", 0.01)
        backup, database = both
        with closing(sqlite3.connect(database)) as user:
            assert user.execute("SELECT content FROM messages").fetchall() == [("new",)]
            with pytest.raises(StoreError, match="in use by another program"):
                restore(backup, database)
        assert heard(database) == ["new"]


async def use(path: Path) -> None:
    async with open_storage(path) as storage:
        await storage.messages.add(said(2, "hello"))
        assert [one.message.content for one in await storage.messages.context(CHANNEL, 5)][
            -1
        ] == "hello"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
class TestKilled:
    def steps(self, *work: object) -> Iterator[bool]:
        """Do it again and again, killed one change later each time; the last time it lives."""
        for number in count(1):
            command = [
                sys.executable,
                "-m",
                "tests.data.storage.steps",
                str(number),
                *map(str, work),
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            lived = done.stdout == "done"
            assert lived or done.returncode == -9, done.stderr
            yield lived
            if lived:
                assert number > 4
                return

    def test_a_restore(self, both: tuple[Path, Path]) -> None:
        backup, database = both
        found = set()
        for lived in self.steps("restore", backup, database):
            [found_now] = heard(database)
            found.add(found_now)
            assert found_now == "old" or not lived
            assert heard(backup) == ["old"]
            kept = [
                heard(one)
                for one in database.parent.glob(f"{database.name}.before-restore-*")
                if not one.name.endswith(("-wal", "-shm"))
            ]
            assert ["new"] in [[found_now], *kept], "what was there before is never lost"
        assert found == {"new", "old"}

    def test_a_backup(self, path: Path) -> None:
        write(path, "hello")
        folder = path.parent / "backups"
        for lived in self.steps("back_up", path):
            assert heard(path) == ["hello"]
            made = list(folder.glob("gpt2bot-*")) if folder.exists() else []
            assert all(heard(one) == ["hello"] for one in made)
            assert len(made) <= 3
            assert made or not lived

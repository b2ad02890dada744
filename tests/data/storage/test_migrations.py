"""A database of the version before keeps everything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import StoreError
from core.records import Choice, Duel, DuelOutcome, Example, NewExample, Pair
from data.storage import migrations
from data.storage.connection import connect
from data.storage.storage import open_storage
from tests.data.storage.records import ADA, BEN, CHANNEL, GUILD, NOON, said

STAMP = NOON.isoformat()


async def write_version(
    version: int, path: Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:version])
        patch.setattr(migrations, "SCHEMA_VERSION", version)
        async with connect(path) as db:
            for statement in more:
                await db.execute(statement)


async def test_a_database_of_version_2_keeps_everything(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_version(
        2,
        path,
        monkeypatch,
        f"INSERT INTO examples VALUES (3, 1, 'a', 'b', 7, 'teach', '{STAMP}')",
        f"INSERT INTO examples VALUES (5, 1, 'a', 'c', 8, 'import', '{STAMP}')",
        f"INSERT INTO examples VALUES (9, 2, 'gone', 'gone', 8, 'import', '{STAMP}')",
        "DELETE FROM examples WHERE id = 9",
        f"INSERT INTO messages VALUES (1, 50, 10, 7, 'user', 'hello', '{STAMP}')",
        f"INSERT INTO messages VALUES (2, 51, 11, 7, 'user', 'hello', '{STAMP}')",
        "INSERT INTO channels VALUES (10, 1, 1)",
        "INSERT INTO resets VALUES (11, 2)",
        f"INSERT INTO activations VALUES (1, 1, 'gpt2-1', '{STAMP}')",
        f"""INSERT INTO jobs VALUES (4, 1, 7, 10, 'gpt2', 'jobs/4', 'promoted', '{STAMP}', 'gpt2-1',
            'It passed.', 77, 1)""",
    )
    async with open_storage(path) as storage:
        assert await storage.examples.all(GUILD) == [
            Example(3, GUILD, "a", "b", ADA, "teach", NOON),
            Example(5, GUILD, "a", "c", BEN, "import", NOON),
        ]
        assert await storage.examples.trainable(GUILD) == await storage.examples.all(GUILD)
        assert await storage.growth.days(GUILD) == [(NOON.date(), 2)]
        assert await storage.messages.context(CHANNEL, 5) == [said(50, "hello")]
        assert await storage.messages.get_many([51]) == [said(51, "hello", channel=11, scope=None)]
        assert await storage.messages.context(11, 5) == []
        assert await storage.channels.enabled() == {CHANNEL}
        assert await storage.model_choices.active(GUILD) == "gpt2-1"
        job = await storage.jobs.get(4)
        assert job is not None
        assert (job.checkpoint, job.message_id, job.attempts) == ("gpt2-1", 77, 1)
        assert (await storage.examples.add(NewExample(GUILD, "a", "b", ADA, "teach"))).id == 3
        assert (await storage.examples.add(NewExample(GUILD, "new", "b", ADA, "teach"))).id > 9
        assert (
            await storage.examples.add_pairs(GUILD, [Pair("a", "b", "talk", 1)], ADA, "import") == 1
        )


async def test_an_empty_database_of_version_2_never_gives_an_id_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_version(
        2,
        path,
        monkeypatch,
        f"INSERT INTO examples VALUES (9, 1, 'gone', 'gone', 8, 'import', '{STAMP}')",
        "DELETE FROM examples",
    )
    async with open_storage(path) as storage:
        assert (await storage.examples.add(NewExample(GUILD, "a", "b", ADA, "teach"))).id == 10
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_sequence ORDER BY name")]
    assert "new_examples" not in names


async def test_a_duel_of_version_17_stays_in_its_channel_or_everywhere(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_version(
        17,
        path,
        monkeypatch,
        f"""INSERT INTO duels VALUES
            (4, 1, 'a', 'b', 20, 1234567890123456789, 11, '{STAMP}', '{STAMP}', 'b', 1),
            (6, 1, 'a', 'c', 30, NULL, 11, '{STAMP}', NULL, NULL, 0),
            (7, 2, 'a', 'b', 40, 12, 13, '{STAMP}', NULL, NULL, 0)""",
        f"INSERT INTO duel_pairs VALUES (51, 4, 1, NULL, 7, 'b', '{STAMP}')",
    )
    ended = Duel(
        4, 1, "a", "b", 20, frozenset({1234567890123456789}), 11, NOON, NOON, DuelOutcome.B
    )
    everywhere = Duel(6, 1, "a", "c", 30, frozenset(), 11, NOON)
    in_one = Duel(7, 2, "a", "b", 40, frozenset({12}), 13, NOON)
    async with open_storage(path) as storage:
        assert await storage.duels.newest(1, 5) == [everywhere, ended]
        assert await storage.duels.running() == [everywhere, in_one]
        assert await storage.duels.unannounced() == []
        assert await storage.duels.votes(ended) == [(7, Choice.B)]
        assert await storage.duels.start(1, ("a", "b"), 20, {12}, 11) is None


class TestTheCopyBefore:
    def copies(self, path: Path) -> list[Path]:
        return sorted(path.parent.glob("backups/before-version-*.sqlite3"))

    def remove(self, path: Path) -> None:
        path.unlink()

    async def test_it_holds_what_was_there_in_the_old_shape(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said_before = f"INSERT INTO messages VALUES (1, 50, 10, 7, 'user', 'hello', '{STAMP}')"
        await write_version(2, path, monkeypatch, said_before)
        assert self.copies(path) == [], "a new database needs none"
        for _ in range(2):
            async with open_storage(path):
                pass
        [copy] = self.copies(path)
        assert copy.name.startswith(f"before-version-{migrations.SCHEMA_VERSION}-")
        with closing(sqlite3.connect(copy)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (2,)
            assert db.execute("SELECT content FROM messages").fetchall() == [("hello",)]

    async def test_the_newest_three_are_kept(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Path] = []
        for _ in range(5):
            await write_version(2, path, monkeypatch)
            async with open_storage(path):
                seen += [one for one in self.copies(path) if one not in seen]
            self.remove(path)
        assert self.copies(path) == seen[-3:]

    async def test_without_it_the_database_stays_as_it_is(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await write_version(2, path, monkeypatch)
        (path.parent / "backups").write_text("a file")
        with pytest.raises(StoreError, match=r"so it was left as it is: .* could not be written"):
            async with open_storage(path):
                pass
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (2,)

"""The start: one bot on a home, and a database that is whole; backups put back under a real bot."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest

from bot.ops import recovery
from bot.ops.recovery import (
    CHECK_TASK_NAME,
    DATABASE_DAMAGED,
    DATABASE_REPLACED,
    open_or_recover,
    single_instance_lock,
)
from bot.settings import Settings, SettingsError, prepare_home
from core.errors import StoreError, WrongKey
from data.storage.backup import create_backup, restore
from data.storage.storage import open_storage
from tests.bot.asking import all_forgotten, storage_of
from tests.bot.cards import facts_of
from tests.bot.conftest import World
from tests.data.storage.databases import damage, heard
from tests.data.storage.records import said

Open = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
async def database(settings: Settings) -> Path:
    """A database that was used."""
    prepare_home(settings)
    path = settings.gpt2bot_home / "gpt2bot.sqlite3"
    async with open_storage(path) as storage:
        for n in range(1, 101):
            await storage.messages.add(said(n, f"message {n}" + "x" * 500))
    return path


async def open_it(database: Path) -> str | None:
    """Open it as the bot does; what the operator should know."""
    async with open_or_recover(database, collected=False) as storage:
        return storage.health_warning


def content(path: Path) -> bytes:
    return path.read_bytes()


def asides(database: Path) -> list[Path]:
    """What was set aside, without the files beside it."""
    found = database.parent.glob(f"{database.name}.damaged-*")
    return [one for one in found if not one.name.endswith(("-wal", "-shm"))]


class TestDamage:
    async def test_a_whole_database_is_opened(self, database: Path) -> None:
        assert await open_it(database) is None
        assert len(heard(database)) == 100
        assert asides(database) == []

    async def test_an_encrypted_one_is_set_aside_only_if_it_is_damaged(
        self, settings: Settings
    ) -> None:
        prepare_home(settings)
        path, key = settings.paths.database, "key"

        async def open_with(key: str) -> str | None:
            async with open_or_recover(path, key, collected=False) as storage:
                await storage.messages.add(said(1, "x" * 50_000))
                return storage.health_warning

        assert await open_with(key) is None
        with pytest.raises(WrongKey):
            await open_with("another")
        assert asides(path) == []
        damage(path)
        assert await open_with(key) == DATABASE_REPLACED
        assert len(asides(path)) == 1

    @pytest.mark.parametrize("backed_up", [True, False])
    async def test_a_damaged_one_is_set_aside_and_told(
        self, database: Path, caplog: pytest.LogCaptureFixture, backed_up: bool
    ) -> None:
        backup = create_backup(database, keep=7).path if backed_up else None
        damage(database)
        damaged = content(database)
        assert await open_it(database) == DATABASE_REPLACED
        [aside] = asides(database)
        assert content(aside) == damaged
        assert heard(database) == []
        [told] = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
        assert f"It was renamed to {aside}, and a new one was started." in told
        way_back = f"`gpt2bot restore {backup}`" if backup else "There is no backup of it."
        assert way_back in told
        assert await open_it(database) is None, "the new one is whole"
        assert asides(database) == [aside]

    async def test_what_was_in_its_log_is_set_aside_with_it(self, database: Path) -> None:
        async with open_storage(database) as storage:
            await storage.messages.add(said(500, "newest"))
            log = database.with_name(f"{database.name}-wal").read_bytes()
            assert log
            damage(database)
            assert await open_it(database) == DATABASE_REPLACED
            [aside] = asides(database)
            assert aside.with_name(f"{aside.name}-wal").read_bytes() == log

    async def test_the_bot_goes_on_and_managers_see_it(
        self, database: Path, open_fake: Open
    ) -> None:
        damage(database)
        async with open_fake() as world:
            assert await world.say(world.ben, "hello") == "you said hello"
            for who, field in ((world.ada, DATABASE_REPLACED), (world.ben, None)):
                about = await who.slash(world.general, "about")
                assert facts_of(about.response).get("Database") == field

    async def test_where_the_check_takes_long_the_bot_runs_meanwhile(
        self, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(recovery, "CHECK_WAIT_S", 0.0)
        damage_one(database, "audit_by_scope")
        async with open_or_recover(database, collected=False) as storage:
            for check in [one for one in asyncio.all_tasks() if one.get_name() == CHECK_TASK_NAME]:
                await asyncio.wait({check})
            await asyncio.sleep(0)  # who waits for its end is called
            assert storage.health_warning == DATABASE_DAMAGED
        assert asides(database) == [], "it is in use"
        assert "The database is damaged" in caplog.text

    async def test_an_end_in_the_middle_of_the_check(
        self, database: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recovery, "CHECK_WAIT_S", 0.0)
        for _ in range(10):
            assert await open_it(database) is None
        assert len(heard(database)) == 100

    async def test_what_is_no_database_is_refused(self, settings: Settings) -> None:
        prepare_home(settings)
        path = settings.gpt2bot_home / "gpt2bot.sqlite3"
        path.write_text("my notes")
        with pytest.raises(StoreError, match="is not a database"):
            await open_it(path)
        assert path.read_text() == "my notes"
        assert asides(path) == []


def damage_one(path: Path, name: str) -> None:
    """Write over the first page of a table or index, which nothing reads at the start."""
    with closing(sqlite3.connect(path)) as db:
        [page] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    with path.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(bytes(range(256)) * 16)


class TestAlone:
    def test_two_are_refused_until_the_first_ends(self, settings: Settings) -> None:
        with single_instance_lock(settings):
            with (
                pytest.raises(SettingsError, match=r"already running on .*: stop it first"),
                single_instance_lock(settings),
            ):
                pass
            with (
                pytest.raises(SettingsError, match="not now"),
                single_instance_lock(settings, "not now"),
            ):
                pass
        with single_instance_lock(settings):
            pass


async def test_a_backup_of_a_running_bot_is_put_back_under_it(open_fake: Open) -> None:
    async with open_fake() as world:
        database = world.home / "gpt2bot.sqlite3"
        await world.ben.slash(world.general, "teach", user="Who is our admin?", bot="Ada.")
        await world.say(world.ben, "before")
        backup = create_backup(database, keep=7).path
        await world.say(world.ben, "after")
        with pytest.raises(StoreError, match="in use by another program"):
            restore(backup, database)
    aside = restore(backup, database)
    assert aside is not None
    assert heard(aside)[-1] == "you said after"
    async with open_fake() as world:
        await world.say(world.ben, "hello")
    assert heard(database) == ["before", "you said before", "hello", "you said hello"]


async def test_who_was_forgotten_since_the_backup_is_forgotten_again(open_fake: Open) -> None:
    async with open_fake() as world:
        database = world.home / "gpt2bot.sqlite3"
        await world.say(world.ada, "I am Ada")
        await world.say(world.ben, "my secret")
        backup = create_backup(database, keep=7).path
        forgetting = world.bot.get_cog("Privacy")._erasure
        await forgetting.erase_member(world.ben.id)
        await world.say(world.ada, "still here")
    restore(backup, database)
    assert "my secret" in heard(database)
    async with open_fake() as world:
        await all_forgotten(storage_of(world))
    assert heard(database) == ["I am Ada", "you said I am Ada"]
    assert b"my secret" not in database.read_bytes()


@pytest.mark.parametrize("backed_up_ahead_days", [-400, 0, 400])
async def test_no_clock_undoes_a_forgetting(open_fake: Open, backed_up_ahead_days: int) -> None:
    async with open_fake() as world:
        database = world.home / "gpt2bot.sqlite3"
        await world.say(world.ben, "my secret")
        shift = f"{backed_up_ahead_days} days"
        await storage_of(world)._execute(
            "UPDATE messages SET created_at = strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', ?)", shift
        )
        backup = create_backup(database, keep=7).path
        await world.bot.get_cog("Privacy")._erasure.erase_member(world.ben.id)
    restore(backup, database)
    async with open_fake() as world:
        await all_forgotten(storage_of(world))
    assert b"my secret" not in database.read_bytes()


@pytest.mark.parametrize("restarts", [1, 2])
async def test_what_is_agreed_to_after_a_forgetting_stays(open_fake: Open, restarts: int) -> None:
    async with open_fake() as world:
        erasure, ben = world.bot.get_cog("Privacy")._erasure, world.ben.id
        await world.say(world.ben, "hello")
        await erasure.erase_member(ben)
        await storage_of(world).consents.opt_in(world.guild.id, ben, 1)
        guild = world.guild.id
    for _ in range(restarts):
        async with open_fake() as world:
            await all_forgotten(storage_of(world))
            assert await storage_of(world).consents.active(guild, ben) is not None


async def test_a_new_database_owes_nobody_a_forgetting(open_fake: Open) -> None:
    async with open_fake() as world:
        database = world.home / "gpt2bot.sqlite3"
        await world.bot.get_cog("Privacy")._erasure.erase_member(world.ben.id)
    database.unlink()
    async with open_fake() as world:
        await world.say(world.ben, "me again")
    async with open_fake() as world:
        await all_forgotten(storage_of(world))
    assert heard(database)[0] == "me again"


async def test_who_comes_back_after_they_were_forgotten_stays(open_fake: Open) -> None:
    async with open_fake() as world:
        await world.bot.get_cog("Privacy")._erasure.erase_member(world.ben.id)
        await world.say(world.ben, "me again")
    async with open_fake() as world:
        await world.say(world.ada, "hello")
    assert "me again" in heard(world.home / "gpt2bot.sqlite3")

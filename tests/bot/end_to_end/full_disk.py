"""The real bot on a disk that fills up, and later has room again.

`python -m tests.bot.end_to_end.full_disk FOLDER`, where FOLDER is a small file system of its own:
something else takes all the rest of it. Writes one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

from bot.settings import load_settings
from core.errors import StoreError
from core.records import Pair
from data.storage.backup import create_backup
from data.storage.migrations import MIGRATIONS
from data.storage.storage import open_storage
from tests.bot.conftest import open_world
from tests.data.storage.databases import heard
from tests.fakes import FakeWorker

MANY = [Pair(f"question {n}", "answer " * 100) for n in range(100)]


def take_the_rest(disk: Path) -> Path:
    """Another program's file, which takes every byte that is left."""
    file = disk / "other"
    handle = os.open(file, os.O_CREAT | os.O_WRONLY)
    size = 1 << 16
    while size:
        try:
            os.write(handle, b"0" * size)
        except OSError:
            size //= 2
    os.close(handle)
    return file


def leave(room: int, file: Path) -> None:
    os.truncate(file, file.stat().st_size - room)


def write_version_2(path: Path) -> None:
    """A database of about 600 kB."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in [*MIGRATIONS[0], *MIGRATIONS[1], "PRAGMA user_version = 2"]:
            db.execute(statement)
        words = (1, 1, 1, 7, "user", "word " * 120_000, "2025-06-01T12:00:00+00:00")
        db.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", words)


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def left(disk: Path) -> list[str]:
    """The names of all copies, without their times."""
    return [one.name.split("-2")[0] for one in disk.glob("*/backups/*")]


async def start(path: Path) -> None:
    async with open_storage(path):
        pass


async def refusal(work: Awaitable[object]) -> str | None:
    try:
        await work
    except StoreError as e:
        return str(e)
    return None


async def live(disk: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    settings = load_settings(gpt2bot_home=disk / "home", default_model="tiny")
    database, old = disk / "home" / "gpt2bot.sqlite3", disk / "old" / "bot.sqlite3"
    write_version_2(old)
    async with open_world(settings, FakeWorker(), check_errors=False) as world:
        storage = world.bot.get_cog("Feedback")._storage
        await world.ben.slash(world.general, "teach", user="Who is our admin?", bot="Ada.")
        facts["before"] = await world.say(world.ben, "hello")
        create_backup(database, keep=7)

        other = take_the_rest(disk)
        facts["full"] = [await world.say(world.ben, f"are you there, {n}?") for n in range(3)]
        taught = await world.ben.slash(world.general, "teach", user="a" * 500, bot="b" * 500)
        facts["teach"] = taught.response.content
        imported = storage.examples.add_pairs(world.guild.id, MANY, 7, "import")
        facts["import"] = await refusal(imported)
        facts["backup"] = await refusal(asyncio.to_thread(create_backup, database, 7))
        leave(400_000, other)  # the database can be opened, but has no room beside it
        facts["upgrade"] = await refusal(start(old)), version(old)

        other.unlink()
        facts["after"] = await world.say(world.ben, "and now?")
        facts["examples"] = await storage.examples.count(world.guild.id)
    facts["upgraded"] = await refusal(start(old)), version(old)
    facts["heard"] = heard(database)
    return facts | {"left": sorted(left(disk))}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(live(Path(sys.argv[1])))))

"""Opening the home safely: one bot at a time, and no damaged database.

Knows the database as files, and what to tell the operator about a damaged one. Does not
know the tables.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bot.settings import Settings, SettingsError, prepare_home
from core.errors import StoreError
from data.storage.backup import newest_backup
from data.storage.files import connect_read_only, integrity_problem, is_sqlite, set_aside
from data.storage.storage import Storage, open_storage
from i18n.phrase import Phrase, phrase

log = logging.getLogger(__name__)

CHECK_TASK_NAME = "check of the database"
CHECK_WAIT_S = 2.0
"""Seconds that the start waits for the integrity check, which takes 0.5 s for a million messages;
that of a larger database continues while the bot runs."""
DATABASE_REPLACED = phrase(
    "It was damaged at the last start, so I began a new one. The log says more."
)
DATABASE_DAMAGED = phrase("It is damaged. The log says more.")


@contextmanager
def single_instance_lock(
    settings: Settings, conflict_message: Phrase | None = None
) -> Iterator[None]:
    """Lock the home against other bots. The system releases the lock if the process dies.

    Raises:
        SettingsError: a bot runs there (`conflict_message` replaces the usual sentence), or the
            lock file cannot be used.
    """
    prepare_home(settings)
    lock = FileLock(settings.paths.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout as e:
        raise SettingsError(conflict_message or _runs_already(settings.gpt2bot_home)) from e
    except OSError as e:
        raise SettingsError(
            phrase(
                "The file {file} cannot be locked: {why}.",
                file=settings.paths.lock,
                why=e.strerror,
            )
        ) from e
    try:
        yield
    finally:
        lock.release()


def _runs_already(home: Path) -> Phrase:
    return phrase(
        "A bot runs on {home} already: stop it first, or set GPT2BOT_HOME to another folder for "
        "this one.",
        home=home,
    )


@asynccontextmanager
async def open_or_recover(database: Path, *, collected: bool) -> AsyncIterator[Storage]:
    """Check the database, then open it; a damaged one is renamed, and an empty one takes its place.

    A check that takes long continues in the background, and damage is then only reported.

    Raises:
        StoreError: it cannot be opened.
    """
    check = asyncio.create_task(find_damage(database), name=CHECK_TASK_NAME)
    try:
        await asyncio.wait({check}, timeout=CHECK_WAIT_S)
        known = check.done()
        begun = await _quarantine_damaged(database, check) if known else None
        async with open_storage(database, include_collected=collected) as storage:
            storage.health_warning = begun
            if not known:
                log.info("the check of the database takes long and goes on meanwhile")
                check.add_done_callback(lambda done: _report_damage(done, database, storage))
            yield storage
    finally:
        check.cancel()
        await asyncio.wait({check})


async def find_damage(database: Path) -> str | None:
    """What is damaged in a database; None if it is intact, or cannot be opened at all, for which
    `open_storage` has the better error."""
    try:
        if not await asyncio.to_thread(is_sqlite, database):
            return None
        db = connect_read_only(database)
    except (OSError, sqlite3.Error):
        return None
    looking = asyncio.ensure_future(asyncio.to_thread(_quick_check, db))
    try:
        return await asyncio.shield(looking)
    except asyncio.CancelledError:
        db.interrupt()
        await asyncio.wait({looking})
        raise
    finally:
        db.close()


def _quick_check(db: sqlite3.Connection) -> str | None:
    try:
        return integrity_problem(db, "quick_check")
    except sqlite3.Error:
        return None


async def _quarantine_damaged(database: Path, check: asyncio.Task[str | None]) -> str | None:
    """Rename a damaged database; returns the warning for the bot's status."""
    found = check.result()
    if found is None:
        return None
    try:
        aside = await asyncio.to_thread(set_aside, database, "damaged")
    except OSError as e:
        raise StoreError(
            phrase(
                "The database {database} is damaged ({found}), and it could not be renamed: {why}.",
                database=database,
                found=found,
                why=e.strerror,
            )
        ) from e
    log.error(
        "The database was damaged (%s). It is now %s, and a new one was begun. %s",
        found, aside, _recovery_hint(database),
    )  # fmt: skip
    return DATABASE_REPLACED


def _report_damage(check: asyncio.Task[str | None], database: Path, storage: Storage) -> None:
    if not check.cancelled() and (found := check.result()):
        storage.health_warning = DATABASE_DAMAGED
        log.error("The database is damaged (%s). %s", found, _recovery_hint(database))


def _recovery_hint(database: Path) -> str:
    backup = newest_backup(database)
    if backup is None:
        return "There is no backup of it."
    return f"The newest backup can be put back: stop the bot, then `gpt2bot restore {backup}`."

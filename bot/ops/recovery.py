"""Opening the bot's home safely: one process at a time, and never with a damaged database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bot.settings import Settings, SettingsError, prepare_home
from core.errors import StoreError
from data.storage.backup import newest_backup
from data.storage.files import connect_read_only, integrity_problem, set_aside
from data.storage.sqlite import is_plain, sqlite_errors
from data.storage.storage import Storage, open_storage
from i18n.phrase import Phrase, phrase

log = logging.getLogger(__name__)

CHECK_TASK_NAME = "integrity check of the database"
CHECK_WAIT_S = 2.0
"""Seconds that the start waits for the integrity check, which takes 0.5 s for a million messages;
with a larger database it continues while the bot runs."""
DATABASE_REPLACED = phrase(
    "It was damaged at the last start, so I started a new one. The log has the details."
)
DATABASE_DAMAGED = phrase("It is damaged. The log has the details.")


def existing_database(settings: Settings) -> Path:
    """The path of the bot's database.

    Raises:
        SettingsError: there is none yet.
    """
    path = settings.paths.database
    if not path.is_file():
        raise SettingsError(
            phrase(
                "There is no database {path}: the bot creates it when it starts. "
                "If it runs elsewhere, set GPT2BOT_HOME.",
                path=path,
            )
        )
    return path


@contextmanager
def single_instance_lock(settings: Settings, conflict: Phrase | None = None) -> Iterator[None]:
    """Lock the home. The system releases the lock if the process dies.

    Raises:
        SettingsError: a bot is running there (`conflict` replaces the usual sentence), or the lock
            file cannot be used.
    """
    prepare_home(settings)
    lock = FileLock(settings.paths.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout as e:
        running = phrase(
            "A bot is already running on {home}: stop it first, or set GPT2BOT_HOME to another "
            "folder for this one.",
            home=settings.gpt2bot_home,
        )
        raise SettingsError(conflict or running) from e
    except OSError as e:
        locked = settings.paths.lock
        raise SettingsError(
            phrase("The file {file} cannot be locked: {why}.", file=locked, why=e.strerror)
        ) from e
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def open_or_recover(
    database: Path, key: str | None = None, *, collected: bool
) -> AsyncIterator[Storage]:
    """Check the database and open it; a damaged one is renamed and replaced by an empty one.

    A long check continues in the background, and damage is then only reported.

    Raises:
        StoreError: it cannot be opened.
    """
    check = asyncio.create_task(find_damage(database, key), name=CHECK_TASK_NAME)
    try:
        await asyncio.wait({check}, timeout=CHECK_WAIT_S)
        finished = check.done()
        warning = await _quarantine(database, check.result()) if finished else None
        async with open_storage(database, key=key, include_collected=collected) as storage:
            storage.health_warning = warning
            if not finished:
                log.info("the integrity check of the database continues in the background")
                check.add_done_callback(lambda done: _report_damage(done, database, storage))
            yield storage
    finally:
        check.cancel()
        await asyncio.wait({check})


async def find_damage(database: Path, key: str | None = None) -> str | None:
    """What is damaged in a database; None if it is intact, or cannot be opened at all, for which
    `open_storage` has the better error."""
    try:
        if await asyncio.to_thread(is_plain, database) == (key is not None):
            return None
        db = await asyncio.to_thread(connect_read_only, database, key)
    except (OSError, StoreError):
        return None
    except sqlite_errors():
        return None
    with closing(db):
        checking = asyncio.ensure_future(asyncio.to_thread(integrity_problem, db, "quick_check"))
        try:
            return await asyncio.shield(checking)
        except sqlite_errors():
            return None
        finally:  # a cancelled check still runs in its thread, with the connection
            db.interrupt()
            await asyncio.wait({checking})


async def _quarantine(database: Path, damage: str | None) -> str | None:
    """Rename the database if it is damaged; returns the warning for the bot's status."""
    if damage is None:
        return None
    try:
        aside = await asyncio.to_thread(set_aside, database, "damaged")
    except OSError as e:
        raise StoreError(
            phrase(
                "The database {database} is damaged ({found}), and it could not be renamed: {why}.",
                database=database,
                found=damage,
                why=e.strerror,
            )
        ) from e
    log.error(
        "The database was damaged (%s). It was renamed to %s, and a new one was started. %s",
        damage, aside, _recovery_hint(database),
    )  # fmt: skip
    return DATABASE_REPLACED


def _report_damage(check: asyncio.Task[str | None], database: Path, storage: Storage) -> None:
    if not check.cancelled() and (damage := check.result()):
        storage.health_warning = DATABASE_DAMAGED
        log.error("The database is damaged (%s). %s", damage, _recovery_hint(database))


def _recovery_hint(database: Path) -> str:
    backup = newest_backup(database)
    if backup is None:
        return "There is no backup of it."
    return f"To restore the newest backup, stop the bot, then run `gpt2bot restore {backup}`."

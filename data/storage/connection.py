"""The connection to the SQLite file: opened safely, its errors turned into sentences.

Knows SQLite's settings and errors. Does not know what the tables mean.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import aiosqlite

from core.errors import CorruptDatabase, DiskFull, NewerDatabase, StoreError, write_error
from core.questions import plain_question, question_key
from data.storage.files import (
    BACKUPS_FOLDER,
    BUSY_TIMEOUT_S,
    connect_read_only,
    copy_database,
    prune_copies,
    timestamped_name,
)
from data.storage.migrations import SCHEMA_VERSION, migrate, needs_migration
from data.storage.sqlite import SQLITE_MAGIC, open_sqlite, row_class, sqlite_errors
from i18n.phrase import phrase

PRE_UPGRADE_PREFIX = "before-version"
"""The prefix of the copies that are made before migrations run."""
PRE_UPGRADE_COPIES_KEPT = 3
ROWS_AT_A_TIME = 64
"""Of a cursor that is read row by row, as in `aiosqlite.connect`."""


@asynccontextmanager
async def connect(path: Path, key: str | None = None) -> AsyncIterator[aiosqlite.Connection]:
    """A connection in autocommit mode to the database at `path`, created or migrated. Raises
    NewerDatabase: a newer version of the bot wrote it; the file is not changed. Raises StoreError:
    it cannot be opened, is not a database, or has another key."""
    with wrap_sqlite_errors(str(path)):
        await asyncio.to_thread(_check, path, key)
        db = await aiosqlite.Connection(
            partial(open_sqlite, path, key, timeout=BUSY_TIMEOUT_S), ROWS_AT_A_TIME
        )
    try:
        with wrap_sqlite_errors(str(path)):
            await _prepare(db, path, key)
        yield db
    finally:
        await db.close()


def _check(path: Path, key: str | None) -> None:
    """Refuse a file that is not ours before a writing connection could change it."""
    with suppress(OSError):  # it exists, or the next line says what is wrong
        path.touch(mode=0o600, exist_ok=False)  # SQLite gives its other files the same mode
    check_header(path, key, "a+b")  # "a": fails now if it cannot be written
    with closing(connect_read_only(path, key)) as db:
        check_version(db, path)


def check_header(path: Path, key: str | None, mode: Literal["rb", "a+b"] = "rb") -> None:
    """Raise StoreError if a file cannot be opened, or is neither empty nor SQLite's. With a key it
    may be anything but a database without encryption."""
    try:
        with path.open(mode) as file:
            file.seek(0)
            beginning = file.read(len(SQLITE_MAGIC))
    except OSError as e:
        raise StoreError(
            phrase("The database {file} cannot be opened: {why}.", file=path, why=e.strerror)
        ) from e
    if beginning == SQLITE_MAGIC and key is not None:
        raise StoreError(
            phrase(
                "DATABASE_KEY is set, but {file} is not encrypted yet: run `gpt2bot backup FILE`, "
                "which encrypts the copy, and `gpt2bot restore FILE`.",
                file=path,
            )
        )
    if beginning not in (b"", SQLITE_MAGIC) and key is None:  # SQLite overwrites very short files
        raise not_a_database(str(path))


def check_version(db: sqlite3.Connection, path: Path) -> int:
    """The schema version of a database; raises NewerDatabase if this version of the bot is older,
    sqlite3.Error if it cannot be read."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise NewerDatabase(
            phrase(
                "The database {file} was written by a newer version of the bot: install that "
                "version, or choose another folder. The file was not changed.",
                file=path,
            )
        )
    return int(version)


async def _prepare(db: aiosqlite.Connection, path: Path, key: str | None) -> None:
    db.row_factory = row_class(key)
    for function in (question_key, plain_question):
        await db.create_function(function.__name__, 1, function, deterministic=True)
    await db.execute("PRAGMA journal_mode = WAL")
    await db.execute("PRAGMA synchronous = NORMAL")
    await db.execute("PRAGMA foreign_keys = ON")
    await db.execute("PRAGMA secure_delete = ON")  # deleted rows are overwritten with zeros
    if await needs_migration(db):
        await asyncio.to_thread(_copy_before_upgrade, path, key)
    await migrate(db)


def _copy_before_upgrade(path: Path, key: str | None) -> None:
    """Keep a copy that the previous version of the bot can open, or raise StoreError."""
    prefix = f"{PRE_UPGRADE_PREFIX}-{SCHEMA_VERSION}"
    try:
        make_copy(path, path.parent / BACKUPS_FOLDER / timestamped_name(prefix), key)
    except StoreError as e:
        raise StoreError(
            phrase(
                "{file} is of an older version. A copy of it has to be made before it is "
                "brought up to date, and that failed, so it was left as it is: {error}",
                file=path,
                error=e,
            )
        ) from e
    with suppress(OSError):  # one too many does no harm
        prune_copies(path.parent / BACKUPS_FOLDER, PRE_UPGRADE_PREFIX, PRE_UPGRADE_COPIES_KEPT)


def make_copy(source: Path, target: Path, key: str | None = None) -> None:
    """`copy_database`, with its errors as StoreError or, if the source is damaged,
    CorruptDatabase."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with wrap_sqlite_errors(str(source)):
            copy_database(source, target, key)
    except OSError as e:
        raise write_error(str(target), e) from e


THE_DATABASE = phrase("The database")
"""The open database in sentences. Made once: every statement passes it, hardly any fails."""


class Repository:
    """The base class of all tables: runs single statements over the shared connection."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db

    async def _fetch_all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with wrap_sqlite_errors(THE_DATABASE):
            return list(await self._db.execute_fetchall(sql, values))

    async def _fetch_one(self, sql: str, *values: object) -> sqlite3.Row | None:
        rows = await self._fetch_all(sql, *values)
        return rows[0] if rows else None

    async def _execute(self, sql: str, *values: object) -> int:
        """Run a statement that inserts, updates or deletes; return the number of rows."""
        # One trip to aiosqlite's thread; a cursor for its `rowcount` would be two.
        return len(await self._fetch_all(f"{sql} RETURNING 1", *values))


def utc_now_iso() -> str:
    """The time as it is stored: in UTC, so that the text sorts by time."""
    return to_utc_iso(datetime.now(UTC))


def to_utc_iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


@contextmanager
def wrap_sqlite_errors(database: str) -> Iterator[None]:
    """Turn each of `sqlite_errors()` into a StoreError; `database` is its name in the sentence."""
    try:
        yield
    except sqlite_errors() as e:
        raise _to_store_error(e, database) from e


def _to_store_error(error: Exception, database: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    match code & 0xFF:  # the primary result code (sqlite.org/rescode.html)
        case sqlite3.SQLITE_FULL:
            return DiskFull()
        case sqlite3.SQLITE_IOERR if code == sqlite3.SQLITE_IOERR_SHMSIZE:  # no room for -shm
            return DiskFull()
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                phrase(
                    "{database} is in use by another program: is the bot running twice?",
                    database=database,
                )
            )
        case sqlite3.SQLITE_NOTADB:
            return not_a_database(database)
        case sqlite3.SQLITE_CORRUPT:
            return corrupt_database(database)
        case _:
            return StoreError(
                phrase("{database} cannot be used: {error}.", database=database, error=error)
            )


def corrupt_database(database: str) -> CorruptDatabase:
    return CorruptDatabase(
        phrase(
            "{database} is damaged: put a backup back with `gpt2bot restore FILE`, or move it "
            "away.",
            database=database,
        )
    )


def not_a_database(file: str) -> StoreError:
    return StoreError(
        phrase(
            "{file} is not a database: move it away, or choose another folder. (If it is "
            "encrypted, set DATABASE_KEY.)",
            file=file,
        )
    )

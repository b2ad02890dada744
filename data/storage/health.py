"""Whether a database is whole, looked at without changing it, also while a bot works with it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.errors import StoreError
from data.storage.connection import (
    corrupt_database,
    newer_database,
    not_a_database,
    wrap_sqlite_errors,
)
from data.storage.files import BUSY_TIMEOUT_S, SQLITE_MAGIC
from data.storage.migrations import SCHEMA_VERSION
from i18n.phrase import phrase

QUICK_CHECK_OK = [("ok",)]
"""What SQLite answers where nothing is wrong (sqlite.org/pragma.html#pragma_quick_check)."""


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """A database that is whole: the version of its shape, and its size on the disk."""

    schema_version: int
    size_bytes: int


def inspect_database(path: Path) -> DatabaseHealth | None:
    """Read all of a database; None if there is none.

    Raises:
        NewerDatabase: a newer version of the bot wrote it.
        StoreError: it cannot be used, or is damaged.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(len(SQLITE_MAGIC))
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StoreError(
            phrase("The database {file} cannot be opened: {why}.", file=path, why=e.strerror)
        ) from e
    if not os.access(path, os.W_OK):
        raise StoreError(
            phrase("The database {file} cannot be written: give the bot permission.", file=path)
        )
    if beginning not in (b"", SQLITE_MAGIC):
        raise not_a_database(str(path))
    used = _is_used(path)
    try:
        return _read(path, used=used)
    except StoreError:
        if used or not _is_used(path):
            raise
        return _read(path, used=True)  # a bot has begun to work with it meanwhile


def _is_used(path: Path) -> bool:
    """Whether there is a log beside the file, as there is while somebody works with it."""
    return path.with_name(f"{path.name}-wal").exists()


def _read(path: Path, *, used: bool) -> DatabaseHealth:
    """Read it all, over a connection that writes nothing.

    Where nobody works with the file it cannot change ("immutable"): any other connection would
    leave an empty log behind, which might belong to somebody else than the bot.
    """
    uri = f"{path.absolute().as_uri()}?{'mode=ro' if used else 'mode=ro&immutable=1'}"
    with (
        wrap_sqlite_errors(str(path)),
        closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as db,
    ):
        [version] = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise newer_database(path)
        if db.execute("PRAGMA quick_check(1)").fetchall() != QUICK_CHECK_OK:
            raise corrupt_database(str(path))
    return DatabaseHealth(version, path.stat().st_size)

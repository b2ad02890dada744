"""Checks a database for damage without changing it, even while a bot is using it."""

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
"""SQLite's answer for an intact database (sqlite.org/pragma.html#pragma_quick_check)."""


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """An intact database."""

    schema_version: int
    size_bytes: int


def inspect_database(path: Path) -> DatabaseHealth | None:
    """Check all of a database; None if the file does not exist.

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
        return _read(path, used=True)  # a bot has opened it meanwhile


def _is_used(path: Path) -> bool:
    """Whether there is a WAL beside the file, as there is while a process has it open."""
    return path.with_name(f"{path.name}-wal").exists()


def _read(path: Path, *, used: bool) -> DatabaseHealth:
    """Check it over a read-only connection.

    A file that nobody uses is opened as "immutable": otherwise SQLite would leave an empty WAL
    behind, possibly owned by another user than the bot's.
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

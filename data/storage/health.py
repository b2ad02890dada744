"""Checks a database for damage without changing it, even while a bot is using it."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.errors import StoreError
from data.storage.connection import (
    check_header,
    check_version,
    corrupt_database,
    wrap_sqlite_errors,
)
from data.storage.files import connect_read_only, integrity_problem
from i18n.phrase import phrase


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """An intact database."""

    schema_version: int
    size_bytes: int


def inspect_database(path: Path, key: str | None = None) -> DatabaseHealth | None:
    """Check all of a database; None if the file does not exist. Raises NewerDatabase if a newer
    version of the bot wrote it. Raises StoreError if it cannot be used, or is damaged."""
    if not path.exists():
        return None
    check_header(path, key)
    if not os.access(path, os.W_OK):
        raise StoreError(
            phrase("The database {file} cannot be written: give the bot permission.", file=path)
        )
    used = _is_used(path)
    try:
        return _read(path, key, used=used)
    except StoreError:
        if used or not _is_used(path):
            raise
        return _read(path, key, used=True)  # a bot has just opened it


def _is_used(path: Path) -> bool:
    """Whether there is a WAL beside the file, as there is while a process has it open."""
    return path.with_name(f"{path.name}-wal").exists()


def _read(path: Path, key: str | None, *, used: bool) -> DatabaseHealth:
    """Check it over a read-only connection."""
    with (
        wrap_sqlite_errors(str(path)),
        closing(connect_read_only(path, key, immutable=not used)) as db,
    ):
        version = check_version(db, path)
        if integrity_problem(db, "quick_check"):
            raise corrupt_database(str(path))
    return DatabaseHealth(version, path.stat().st_size)

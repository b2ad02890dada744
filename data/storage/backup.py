"""Backups of the database, and putting one back. All of it blocks.

Knows what makes a file a database of ours. Does not know whether a bot is running: who restores
must make sure that none is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.errors import CorruptDatabase, StoreError, write_error
from data.storage.connection import check_version, make_copy, wrap_sqlite_errors
from data.storage.files import (
    BACKUPS_FOLDER,
    BUSY_TIMEOUT_S,
    connect_read_only,
    integrity_problem,
    is_corruption,
    is_sqlite,
    link_aside,
    list_copies,
    prune_copies,
    remove_wal_files,
    replace_atomically,
    timestamped_name,
    verified_copy,
)
from i18n.phrase import phrase

BACKUP_PREFIX = "gpt2bot"
"""How the names of backups begin."""
BEFORE_RESTORE = "before-restore"
"""Why a database was set aside: a backup took its place."""
REQUIRED_TABLES = frozenset({"messages", "resets", "channels", "examples", "jobs"})
"""Tables that a database of the bot has had in every version."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A backup that was made, and the older ones that were removed for it."""

    path: Path
    removed: Sequence[Path] = ()


def create_backup(database: Path, keep: int) -> BackupResult:
    """Make a backup in the folder for them, and keep only the newest of those there.

    The bot may write to the database meanwhile: the backup holds what it was at one moment.

    Raises:
        CorruptDatabase: the database is; no backup is removed.
        StoreError: the backup could not be written.
    """
    folder = database.parent / BACKUPS_FOLDER
    path = folder / timestamped_name(BACKUP_PREFIX)
    make_copy(database, path)
    try:
        return BackupResult(path, prune_copies(folder, BACKUP_PREFIX, keep))
    except OSError as e:
        raise write_error(phrase("The folder of backups"), e) from e


def newest_backup(database: Path) -> Path | None:
    """The newest backup that `create_backup` made of a database."""
    return next(iter(list_copies(database.parent / BACKUPS_FOLDER, BACKUP_PREFIX)), None)


def restore(backup: Path, database: Path) -> Path | None:
    """Put a copy of a backup in the place of the database; where that was set aside.

    Killed at any moment, either of the two is there, whole.

    Raises:
        NewerDatabase: a newer version of the bot wrote the backup.
        StoreError: it is not a backup of ours, or damaged; or the database is in use, or there is
            no room. Nothing was changed.
    """
    verify_backup(backup)
    if database.exists() and backup.samefile(database):
        raise StoreError(
            phrase("{backup} is the database itself: choose a backup of it.", backup=backup)
        )
    try:
        with wrap_sqlite_errors(str(backup)), verified_copy(backup, database.parent) as made:
            aside = _preserve_current(database) if database.exists() else None
            remove_wal_files(database)
            replace_atomically(made, database)
            return aside
    except OSError as e:
        raise write_error(str(database), e) from e


def verify_backup(backup: Path) -> None:
    """Make sure that a file is a whole database of ours.

    Raises:
        NewerDatabase, CorruptDatabase, StoreError: it is not.
    """
    try:
        if not is_sqlite(backup):
            raise StoreError(
                phrase("{backup} is not a backup: it is no database at all.", backup=backup)
            )
    except OSError as e:
        raise StoreError(
            phrase("{backup} cannot be opened: {why}.", backup=backup, why=e.strerror)
        ) from e
    with wrap_sqlite_errors(str(backup)), closing(connect_read_only(backup)) as db:
        if found := integrity_problem(db):
            raise CorruptDatabase(
                phrase(
                    "{backup} is damaged ({found}): take another backup.",
                    backup=backup,
                    found=found,
                )
            )
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    if not tables >= REQUIRED_TABLES:
        raise StoreError(
            phrase(
                "{backup} is not a backup: it is the database of another program.", backup=backup
            )
        )
    with wrap_sqlite_errors(str(backup)):
        version = check_version(backup)
    if not version:
        raise StoreError(
            phrase(
                "{backup} is not a backup: it does not say of which version it is.", backup=backup
            )
        )


def _preserve_current(database: Path) -> Path:
    """Give the database its second name, after its log was emptied into it."""
    with (
        wrap_sqlite_errors(str(database)),
        closing(sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)) as db,
    ):
        try:
            db.execute("PRAGMA journal_mode = DELETE")  # refused while another program has it open
        except sqlite3.DatabaseError as e:
            if not is_corruption(e):
                raise
    return link_aside(database, BEFORE_RESTORE)

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

from core.errors import Damaged, StoreError, not_written
from data.storage.connection import check_version, make_copy, sentences
from data.storage.files import (
    BACKUPS,
    BUSY_TIMEOUT_S,
    copied,
    copies,
    dated,
    is_damage,
    is_sqlite,
    keep_beside,
    keep_newest,
    problem,
    put_in_place,
    read_only,
    remove_beside,
)
from i18n.phrase import phrase

PREFIX = "gpt2bot"
"""How the names of backups begin."""
BEFORE_RESTORE = "before-restore"
"""Why a database was set aside: a backup took its place."""
OURS = frozenset({"messages", "resets", "channels", "examples", "jobs"})
"""Tables that a database of the bot has had in every version."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, and the older ones that were removed for it."""

    path: Path
    removed: Sequence[Path] = ()


def back_up(database: Path, keep: int) -> Backup:
    """Make a backup in the folder for them, and keep only the newest of those there.

    The bot may write to the database meanwhile: the backup holds what it was at one moment.

    Raises:
        Damaged: the database is; no backup is removed.
        StoreError: the backup could not be written.
    """
    folder = database.parent / BACKUPS
    path = folder / dated(PREFIX)
    make_copy(database, path)
    try:
        return Backup(path, keep_newest(folder, PREFIX, keep))
    except OSError as e:
        raise not_written(phrase("The folder of backups"), e) from e


def newest_backup(database: Path) -> Path | None:
    """The newest backup that `back_up` made of a database."""
    return next(iter(copies(database.parent / BACKUPS, PREFIX)), None)


def restore(backup: Path, database: Path) -> Path | None:
    """Put a copy of a backup in the place of the database; where that was set aside.

    Killed at any moment, either of the two is there, whole.

    Raises:
        NewerDatabase: a newer version of the bot wrote the backup.
        StoreError: it is not a backup of ours, or damaged; or the database is in use, or there is
            no room. Nothing was changed.
    """
    examine(backup)
    if database.exists() and backup.samefile(database):
        raise StoreError(
            phrase("{backup} is the database itself: choose a backup of it.", backup=backup)
        )
    try:
        with sentences(str(backup)), copied(backup, database.parent) as made:
            aside = _make_way(database) if database.exists() else None
            remove_beside(database)
            put_in_place(made, database)
            return aside
    except OSError as e:
        raise not_written(str(database), e) from e


def examine(backup: Path) -> None:
    """Make sure that a file is a whole database of ours.

    Raises:
        NewerDatabase, Damaged, StoreError: it is not.
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
    with sentences(str(backup)), closing(read_only(backup)) as db:
        if found := problem(db):
            raise Damaged(
                phrase(
                    "{backup} is damaged ({found}): take another backup.",
                    backup=backup,
                    found=found,
                )
            )
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    if not tables >= OURS:
        raise StoreError(
            phrase(
                "{backup} is not a backup: it is the database of another program.", backup=backup
            )
        )
    with sentences(str(backup)):
        version = check_version(backup)
    if not version:
        raise StoreError(
            phrase(
                "{backup} is not a backup: it does not say of which version it is.", backup=backup
            )
        )


def _make_way(database: Path) -> Path:
    """Give the database its second name, after its log was emptied into it."""
    with sentences(str(database)), closing(sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)) as db:
        try:
            db.execute("PRAGMA journal_mode = DELETE")  # refused while another program has it open
        except sqlite3.DatabaseError as e:
            if not is_damage(e):
                raise
    return keep_beside(database, BEFORE_RESTORE)

"""Creates and restores backups of the database. Blocking.

Knows how to recognize a database of this bot. Does not know whether a bot is running: callers of
`restore` must make sure that none is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import CorruptDatabase, StoreError, WrongKey, write_error
from data.storage.connection import check_version, make_copy, wrap_sqlite_errors
from data.storage.files import (
    BACKUPS_FOLDER,
    BUSY_TIMEOUT_S,
    connect_read_only,
    integrity_problem,
    is_corruption,
    link_aside,
    list_copies,
    prune_copies,
    remove_wal_files,
    replace_atomically,
    timestamped_name,
    verified_copy,
)
from data.storage.sqlite import is_plain, key_of, open_sqlite, sqlite_errors
from i18n.phrase import phrase

BACKUP_PREFIX = "gpt2bot"
BEFORE_RESTORE = "before-restore"
"""In the name of a database that a backup replaced."""
REQUIRED_TABLES = frozenset({"messages", "resets", "channels", "examples", "jobs"})
"""Tables that every version of the database has."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A new backup, and the old ones that were removed."""

    path: Path
    removed: Sequence[Path] = ()


def create_backup(database: Path, keep: int, key: str | None = None) -> BackupResult:
    """Make a backup, and keep only the newest `keep` ones.

    The bot may write to the database meanwhile: the backup is a consistent snapshot. Raises
    CorruptDatabase: the database is; no backup is removed. Raises StoreError: the backup could not
    be written."""
    folder = database.parent / BACKUPS_FOLDER
    path = folder / timestamped_name(BACKUP_PREFIX)
    make_copy(database, path, key)
    try:
        return BackupResult(path, prune_copies(folder, BACKUP_PREFIX, keep))
    except OSError as e:
        raise write_error(phrase("The folder of backups"), e) from e


def newest_backup(database: Path) -> Path | None:
    """The newest backup of a database, if there is one."""
    return next(iter(list_copies(database.parent / BACKUPS_FOLDER, BACKUP_PREFIX)), None)


def restore(backup: Path, database: Path, key: str | None = None) -> Path | None:
    """Replace the database by a copy of a backup, encrypted if there is a key; return where the old
    database is now.

    If this is killed at any moment, one of the two is there, complete. Raises NewerDatabase: a
    newer version of the bot wrote the backup. Raises StoreError if it is no backup of this bot, or
    damaged; the database is in use; or there is no room. Nothing was changed."""
    verify_backup(backup, key)
    if database.exists() and backup.samefile(database):
        raise StoreError(
            phrase("{backup} is the database itself: choose a backup of it.", backup=backup)
        )
    try:
        with wrap_sqlite_errors(str(backup)), verified_copy(backup, database.parent, key) as made:
            aside = _preserve_current(database, key) if database.exists() else None
            remove_wal_files(database)
            replace_atomically(made, database)
            return aside
    except OSError as e:
        raise write_error(str(database), e) from e


def verify_backup(backup: Path, key: str | None = None) -> None:
    """Check that a file is an intact database of this bot, with the key or without any. Raises
    NewerDatabase, CorruptDatabase, StoreError: it is not."""
    try:
        if key is None and not is_plain(backup):
            raise _not_a_backup(
                backup, phrase("it is not a database, or it is encrypted and needs DATABASE_KEY")
            )
        own_key = key_of(backup, key)
    except OSError as e:
        raise StoreError(
            phrase("{backup} cannot be opened: {why}.", backup=backup, why=e.strerror)
        ) from e
    with wrap_sqlite_errors(str(backup)), closing(connect_read_only(backup, own_key)) as db:
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
            raise _not_a_backup(backup, phrase("it is the database of another program"))
        if not check_version(db, backup):
            raise _not_a_backup(backup, phrase("its version is missing"))


def _not_a_backup(file: Path, reason: str) -> StoreError:
    return StoreError(phrase("{backup} is not a backup: {reason}.", backup=file, reason=reason))


def _preserve_current(database: Path, key: str | None) -> Path:
    """Merge the WAL into the database, and give it a second name. One that the key does not open
    is kept with its WAL."""
    with suppress(WrongKey):
        _merge_wal(database, key_of(database, key))
    return link_aside(database, BEFORE_RESTORE)


def _merge_wal(database: Path, key: str | None) -> None:
    with (
        wrap_sqlite_errors(str(database)),
        closing(open_sqlite(database, key, timeout=BUSY_TIMEOUT_S)) as db,
    ):
        try:
            db.execute("PRAGMA journal_mode = DELETE")  # refused while another program has it open
        except sqlite_errors() as e:
            if not is_corruption(e):
                raise

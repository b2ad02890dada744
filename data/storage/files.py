"""The database as files: copied while in use, checked, set aside, replaced. Blocking.

Knows SQLite's files and its backup API. Does not know what the tables mean. Failures are `OSError`,
those of `sqlite_errors()`, or `StoreError`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from core.errors import CorruptDatabase
from data.storage.sqlite import encrypt_into, key_of, open_sqlite, sqlite_errors
from i18n.phrase import phrase

BUSY_TIMEOUT_S = 5.0
"""Seconds to wait for another process that has locked the database."""
BACKUPS_FOLDER = "backups"
"""The folder for copies, beside the database."""
WAL_SUFFIXES = ("-wal", "-shm")
"""The files beside a database in WAL mode."""
PAGES_PER_STEP = 1000
"""Pages (usually of 4 kB) copied in one step."""
STEP_PAUSE_S = 0.005
"""Seconds between two steps, to leave the disk to others."""
STALE_TEMP_AGE_S = 3600.0
"""Age in seconds at which an unfinished copy is known to be abandoned."""
DATABASE_SUFFIX = ".sqlite3"
TIMESTAMP_FORMAT = "%Y%m%d-%H%M%S-%f"
"""The time (UTC) in the names of copies; names sort by time."""
TEMP_PREFIX = ".gpt2bot-unfinished-"


def connect_read_only(
    path: Path, key: str | None = None, *, immutable: bool = False
) -> sqlite3.Connection:
    """A read-only connection, which may be used from another thread. `immutable`: nobody uses the
    file, so SQLite need not leave an empty WAL behind, possibly owned by another user."""
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    return open_sqlite(uri, key, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)


def is_corruption(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def integrity_problem(db: sqlite3.Connection, check: str = "integrity_check") -> str | None:
    """The first damage found in a database, or None. `quick_check` takes a tenth of the time: it
    does not compare indexes with their tables."""
    try:
        [found] = db.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite_errors() as e:
        if not is_corruption(e):
            raise
        return str(e)
    return None if found == "ok" else " ".join(str(found).split())


# --- copies --------------------------------------------------------------------------------------


def copy_database(source: Path, target: Path, key: str | None = None) -> None:
    """Copy a consistent snapshot of a database while others may write to it.

    `target` appears complete, checked and synced, or not at all. It has no WAL files. Raises
    CorruptDatabase: the source is. Raises OSError, sqlite3.Error: it could not be read or
    written."""
    with verified_copy(source, target.parent, key) as made:
        replace_atomically(made, target)


@contextmanager
def verified_copy(source: Path, folder: Path, key: str | None = None) -> Iterator[Path]:
    """A checked copy in `folder`, to be moved by `replace_atomically`; otherwise it is removed.
    With a key it is encrypted, also where the source is not yet. Raises the same errors as
    `copy_database`."""
    with _temp_file(folder) as made:
        with closing(open_sqlite(made, key, uri=True)) as new:
            _fill(new, source, key)
            new.execute("PRAGMA journal_mode = DELETE")
            if found := integrity_problem(new):
                raise CorruptDatabase(
                    phrase(
                        "{source} is damaged ({found}), so no copy of it was made.",
                        source=source,
                        found=found,
                    )
                )
        yield made


def _fill(new: sqlite3.Connection, source: Path, key: str | None) -> None:
    """Copy a database into an empty one, page by page if both have the same key or none."""
    if key != key_of(source, key):
        encrypt_into(new, source)
        return
    with closing(connect_read_only(source, key)) as old:
        old.execute("BEGIN")  # or each write by others would restart the backup
        old.execute("SELECT 1 FROM sqlite_master").fetchone()
        old.backup(new, pages=PAGES_PER_STEP, progress=lambda *_: time.sleep(STEP_PAUSE_S))


@contextmanager
def _temp_file(folder: Path) -> Iterator[Path]:
    """A new file in `folder`, removed at the end unless it was renamed. Also removes the files that
    killed processes left there."""
    for left in folder.glob(f"{TEMP_PREFIX}*"):
        with suppress(FileNotFoundError):  # somebody else was faster
            if time.time() - left.stat().st_mtime > STALE_TEMP_AGE_S:
                left.unlink()
    handle, name = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def replace_atomically(made: Path, path: Path) -> None:
    """Sync `made` to the disk, then rename it to `path`, replacing what is there."""
    _sync(made)
    made.replace(path)
    fsync_folder(path.parent)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Make renames survive a power cut."""
    if sys.platform == "win32":  # cannot open folders, and does not need it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def timestamped_name(prefix: str, ending: str = DATABASE_SUFFIX) -> str:
    """A name with the time: `prefix-20250601-120000-000000.sqlite3`."""
    return f"{prefix}-{datetime.now(UTC).strftime(TIMESTAMP_FORMAT)}{ending}"


def list_copies(folder: Path, prefix: str) -> list[Path]:
    """The files in a folder that `timestamped_name` named, newest first."""
    return sorted(folder.glob(f"{prefix}-*{DATABASE_SUFFIX}"), key=_time, reverse=True)


def _time(path: Path) -> str:
    return path.name.removesuffix(DATABASE_SUFFIX)[-len("20250601-120000-000000") :]


def prune_copies(folder: Path, prefix: str, count: int) -> list[Path]:
    """Remove all but the newest `count` copies; return the removed ones."""
    old = list_copies(folder, prefix)[count:]
    for path in old:
        path.unlink(missing_ok=True)
    return old


# --- setting aside -------------------------------------------------------------------------------


def set_aside(database: Path, why: str) -> Path:
    """Rename a database and its WAL files to a name that says why and when. If this is killed
    halfway, all data is there under the old name, the new one, or both."""
    aside = link_aside(database, why)
    remove_wal_files(database)
    database.unlink()
    fsync_folder(database.parent)
    return aside


def link_aside(database: Path, why: str) -> Path:
    """Give a database and its WAL files a second name."""
    aside = database.with_name(timestamped_name(f"{database.name}.{why}", ending=""))
    for ending in (*WAL_SUFFIXES, ""):
        file = database.with_name(database.name + ending)
        if file.exists():
            _link(file, aside.with_name(aside.name + ending))
    fsync_folder(database.parent)
    return aside


def remove_wal_files(database: Path) -> None:
    """Remove a database's WAL: SQLite would apply it to the file that takes its place."""
    for ending in WAL_SUFFIXES:
        database.with_name(database.name + ending).unlink(missing_ok=True)


def _link(old: Path, new: Path) -> None:
    try:
        new.hardlink_to(old)
    except FileExistsError:
        raise
    except OSError:  # not every file system has links
        shutil.copyfile(old, new)
        _sync(new)

"""The database as files: copied while it is used, checked, set aside, put in place.

Knows SQLite's files and its backup API. Does not know what the tables mean, nor sentences for
people: what fails is an `OSError`, a `sqlite3.Error` or `CorruptDatabase`. All of it blocks.
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
from i18n.phrase import phrase

SQLITE_MAGIC = b"SQLite format 3\0"
"""How every SQLite file begins (sqlite.org/fileformat.html, section 1.3)."""
BUSY_TIMEOUT_S = 5.0
"""Seconds to wait for another process that holds the database."""
BACKUPS_FOLDER = "backups"
"""The folder beside the database for copies of it."""
WAL_SUFFIXES = ("-wal", "-shm")
"""Endings of the files that belong to a database in WAL mode."""
PAGES_PER_STEP = 1000
"""Pages (of 4 kB, mostly) that are copied at a time."""
STEP_PAUSE_S = 0.005
"""Seconds between two such steps in which others have the disk."""
STALE_TEMP_AGE_S = 3600.0
"""Seconds after which nobody writes to an unfinished copy any more."""
DATABASE_SUFFIX = ".sqlite3"
TIMESTAMP_FORMAT = "%Y%m%d-%H%M%S-%f"
"""How the names of copies say when they were made (UTC); later sorts after earlier."""
TEMP_PREFIX = ".gpt2bot-unfinished-"


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing; it may be used from another thread."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def is_corruption(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def integrity_problem(db: sqlite3.Connection, check: str = "integrity_check") -> str | None:
    """What is damaged in a database; None if it is whole. `quick_check` does not compare indexes
    with their tables, and takes a tenth of the time."""
    try:
        [found] = db.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite3.DatabaseError as e:
        if not is_corruption(e):
            raise
        return str(e)
    return None if found == "ok" else " ".join(str(found).split())


# --- copies --------------------------------------------------------------------------------------


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, as it is at one moment, while others may write to it.

    `target` appears whole, checked and on the disk, or not at all. It needs no file beside it.

    Raises:
        CorruptDatabase: so is the source.
        OSError, sqlite3.Error: it could not be read or written.
    """
    with verified_copy(source, target.parent) as made:
        replace_atomically(made, target)


@contextmanager
def verified_copy(source: Path, folder: Path) -> Iterator[Path]:
    """A copy in a folder, checked, for `replace_atomically`; else it goes again. Raises the
    same."""
    with _temp_file(folder) as made:
        with closing(connect_read_only(source)) as old, closing(sqlite3.connect(made)) as new:
            old.execute("BEGIN")  # with a read under way, what others write does not restart it
            old.execute("SELECT 1 FROM sqlite_master").fetchone()
            old.backup(new, pages=PAGES_PER_STEP, progress=lambda *_: time.sleep(STEP_PAUSE_S))
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


@contextmanager
def _temp_file(folder: Path) -> Iterator[Path]:
    """A new file in a folder, which goes again unless it is renamed; so do such files that were
    left by a process that was killed."""
    for left in folder.glob(f"{TEMP_PREFIX}*"):
        with suppress(FileNotFoundError):  # somebody else was quicker
            if time.time() - left.stat().st_mtime > STALE_TEMP_AGE_S:
                left.unlink()
    handle, name = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def replace_atomically(made: Path, path: Path) -> None:
    """Rename a file that was written, once all of it is on the disk; it replaces what is there."""
    _sync(made)
    made.replace(path)
    fsync_folder(path.parent)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Make sure that a power cut does not take back what was renamed."""
    if sys.platform == "win32":  # which opens no folders, and needs none of this
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def timestamped_name(prefix: str, ending: str = DATABASE_SUFFIX) -> str:
    """A name that tells the time: `prefix-20250601-120000-000000.sqlite3`."""
    return f"{prefix}-{datetime.now(UTC).strftime(TIMESTAMP_FORMAT)}{ending}"


def list_copies(folder: Path, prefix: str) -> list[Path]:
    """The files that `timestamped_name` named in a folder, newest first."""
    return sorted(folder.glob(f"{prefix}-*{DATABASE_SUFFIX}"), key=_time, reverse=True)


def _time(path: Path) -> str:
    return path.name.removesuffix(DATABASE_SUFFIX)[-len("20250601-120000-000000") :]


def prune_copies(folder: Path, prefix: str, count: int) -> list[Path]:
    """Remove all but the newest copies; those that went."""
    old = list_copies(folder, prefix)[count:]
    for path in old:
        path.unlink(missing_ok=True)
    return old


# --- setting aside -------------------------------------------------------------------------------


def set_aside(database: Path, why: str) -> Path:
    """Take a database away, with the files beside it, under a name that says why and when.

    Killed in the middle, all of it is there under the old name or the new one, or under both.
    """
    aside = link_aside(database, why)
    remove_wal_files(database)
    database.unlink()
    fsync_folder(database.parent)
    return aside


def link_aside(database: Path, why: str) -> Path:
    """Give a database, and the files beside it, a second name."""
    aside = database.with_name(timestamped_name(f"{database.name}.{why}", ending=""))
    for ending in (*WAL_SUFFIXES, ""):
        file = database.with_name(database.name + ending)
        if file.exists():
            _link(file, aside.with_name(aside.name + ending))
    fsync_folder(database.parent)
    return aside


def remove_wal_files(database: Path) -> None:
    """Take away the log of a database: to another file in its place it would do damage."""
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

"""How a database file is opened: by Python's SQLite, or with a key by SQLCipher's.

The only module that knows SQLCipher, an optional dependency (the extra `encryption`). Knows nothing
of what is in the file.
"""

from __future__ import annotations

import sqlite3
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from core.errors import StoreError, WrongKey
from i18n.phrase import phrase

SQLITE_MAGIC = b"SQLite format 3\0"
"""The first bytes of every SQLite file (sqlite.org/fileformat.html, section 1.3). An encrypted one
begins with its salt instead."""
SQLCIPHER = "sqlcipher3.dbapi2"


def open_sqlite(database: str | Path, key: str | None = None, **options: Any) -> sqlite3.Connection:
    """A connection in autocommit mode. `options` are those of `sqlite3.connect`.

    Raises `sqlite_errors()`: it cannot be opened. Raises WrongKey. Raises StoreError: SQLCipher
    is not installed."""
    options = {"isolation_level": None, **options}
    if key is None:
        plain: sqlite3.Connection = sqlite3.connect(database, **options)
        return plain
    db: sqlite3.Connection = _sqlcipher().connect(database, **options)
    try:
        _unlock(db, key)
    except BaseException:
        db.close()
        raise
    return db


def sqlite_errors() -> tuple[type[Exception], ...]:
    """`sqlite3.Error`, and SQLCipher's own if it is loaded."""
    loaded = sys.modules.get(SQLCIPHER)
    return (sqlite3.Error, loaded.Error) if loaded else (sqlite3.Error,)


def row_class(key: str | None) -> type[sqlite3.Row]:
    """The rows of a connection: each library takes only its own."""
    rows: type[sqlite3.Row] = _sqlcipher().Row if key else sqlite3.Row
    return rows


def is_plain(path: Path) -> bool:
    """Whether a file is a database without encryption."""
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def key_of(path: Path, key: str | None) -> str | None:
    """The key of a file that may be older than the operator's key: None if it has none."""
    return None if is_plain(path) else key


def encrypt_into(db: sqlite3.Connection, plain: Path) -> None:
    """Copy a database without encryption into an empty one that has a key."""
    uri = f"{plain.absolute().as_uri()}?mode=ro"
    db.execute("ATTACH DATABASE ? AS plain KEY ''", (uri,))
    db.execute("BEGIN")  # others may write meanwhile
    db.execute("SELECT sqlcipher_export('main', 'plain')")
    [version] = db.execute("PRAGMA plain.user_version").fetchone()  # not part of an export
    db.execute(f"PRAGMA main.user_version = {int(version)}")
    db.execute("COMMIT")
    db.execute("DETACH DATABASE plain")


def _unlock(db: sqlite3.Connection, key: str) -> None:
    """Give the connection its key, and try it."""
    db.execute("PRAGMA cipher_log_level = NONE")  # else a wrong key is told on stderr
    quoted = key.replace("'", "''")
    db.execute(f"PRAGMA key = '{quoted}'")
    try:
        db.execute("PRAGMA user_version").fetchone()  # in the first page, which has to be there
    except sqlite_errors() as e:
        if getattr(e, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_NOTADB:
            raise
        raise WrongKey(
            phrase(
                "The database cannot be read with this DATABASE_KEY: set the key that it was "
                "made with (or the file is damaged: then restore a backup)."
            )
        ) from e


def _sqlcipher() -> Any:
    try:
        return import_module(SQLCIPHER)
    except ImportError as e:
        raise StoreError(
            phrase(
                "DATABASE_KEY is set, and what encrypts the database is not installed: add the "
                "extra `encryption` (`uv sync --extra encryption`)."
            )
        ) from e

"""The shape of the database, as the steps that lead to it.

Append only: a step that was released never changes. `PRAGMA user_version` counts the steps that
a database has taken.
"""

from __future__ import annotations

import aiosqlite

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # `id` is the order of arrival and never used twice, so a reset stays where it was set even
        # if the messages before it are deleted.
        """
        CREATE TABLE messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            discord_id INTEGER NOT NULL UNIQUE,
            channel_id INTEGER NOT NULL,
            author_id INTEGER NOT NULL,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            created_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX messages_by_channel ON messages (channel_id, id)",
        """
        CREATE TABLE resets (
            channel_id INTEGER PRIMARY KEY,
            after_id INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE channels (
            channel_id INTEGER PRIMARY KEY,
            guild_id INTEGER NOT NULL,
            enabled INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE active_models (
            scope INTEGER PRIMARY KEY,
            name TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE examples (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            user TEXT NOT NULL,
            bot TEXT NOT NULL,
            author_id INTEGER NOT NULL,
            source TEXT NOT NULL,
            created_at TEXT NOT NULL,
            UNIQUE (scope, user, bot)
        )
        """,
        """
        CREATE TABLE jobs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            requested_by INTEGER NOT NULL,
            channel_id INTEGER NOT NULL,
            base_model TEXT NOT NULL,
            directory TEXT NOT NULL,
            state TEXT NOT NULL,
            created_at TEXT NOT NULL,
            checkpoint TEXT,
            detail TEXT
        )
        """,
        "CREATE INDEX jobs_by_scope ON jobs (scope, id)",
    ),
    (
        # The choices of a scope are a stack: the newest is active, a rollback takes it away.
        """
        CREATE TABLE activations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            name TEXT NOT NULL,
            created_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX activations_by_scope ON activations (scope, id)",
        """
        INSERT INTO activations (scope, name, created_at)
        SELECT scope, name, strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') FROM active_models
        """,
        "DROP TABLE active_models",
        "ALTER TABLE jobs ADD COLUMN message_id INTEGER",
        "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    ),
)

LATEST = len(MIGRATIONS)
"""The `user_version` of a database that this version of the bot writes."""


async def upgrade(db: aiosqlite.Connection) -> None:
    """Take the steps that the database lacks, each in a transaction of its own.

    `db` must be in autocommit mode.

    Raises:
        sqlite3.Error: a step failed; those before it stay, the failed one leaves no trace.
    """
    for version in range(await _version(db) + 1, LATEST + 1):
        await db.execute("BEGIN IMMEDIATE")
        try:
            if await _version(db) < version:  # another process may have been quicker
                for statement in MIGRATIONS[version - 1]:
                    await db.execute(statement)
                await db.execute(f"PRAGMA user_version = {version}")
            await db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite itself rolls back where the disk is full
                await db.execute("ROLLBACK")
            raise


async def _version(db: aiosqlite.Connection) -> int:
    [row] = await db.execute_fetchall("PRAGMA user_version")
    return int(row[0])

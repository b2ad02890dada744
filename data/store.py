"""The store: everything that must survive a restart, in one SQLite file.

Knows SQL, and is (with `data.migrations`) the only one that does. Does not know Discord or torch.
Each method is a single statement in autocommit mode. So it happens wholly or not at all, and
callers that run at the same time need no lock although they share the connection.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite

from data.connection import connect, sentences
from data.errors import StoreError
from data.schema import Example, JobState, Message, Role, StoredMessage, TrainingJob


class Store:
    """The history, the channels, the choice of models, the data set and the training jobs.

    Every method raises StoreError (DiskFull where there is no room) if SQLite fails; what was
    written before stays. Times are in UTC.
    """

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db

    async def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with sentences("The database"):
            return list(await self._db.execute_fetchall(sql, values))

    # --- history ---------------------------------------------------------------------------------

    async def add_message(self, message: StoredMessage) -> None:
        """Record a message as the newest of its channel; one that is known already is ignored."""
        await self._rows(
            """
            INSERT INTO messages (discord_id, channel_id, author_id, role, content, created_at)
            VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (discord_id) DO NOTHING
            """,
            message.discord_id,
            message.channel_id,
            message.author_id,
            message.message.role.value,
            message.message.content,
            message.created_at.astimezone(UTC).isoformat(),
        )

    async def edit_message(self, discord_id: int, content: str) -> bool:
        """Change what a message says; False if it is not known."""
        sql = "UPDATE messages SET content = ? WHERE discord_id = ? RETURNING id"
        return bool(await self._rows(sql, content, discord_id))

    async def delete_messages(self, discord_ids: Collection[int]) -> int:
        """Erase messages; how many of them were known."""
        sql = """
            DELETE FROM messages WHERE discord_id IN (SELECT value FROM json_each(?)) RETURNING id
        """
        return len(await self._rows(sql, json.dumps(list(discord_ids))))

    async def context(self, channel_id: int, limit: int) -> list[StoredMessage]:
        """The newest `limit` messages since the channel's last reset, in order of arrival."""
        rows = await self._rows(
            """
            SELECT discord_id, channel_id, author_id, role, content, created_at FROM messages
            WHERE channel_id = ?1
              AND id > coalesce((SELECT after_id FROM resets WHERE channel_id = ?1), 0)
            ORDER BY id DESC LIMIT ?2
            """,
            channel_id,
            limit,
        )
        return [_message(row) for row in reversed(rows)]

    async def reset_context(self, channel_id: int) -> None:
        """Begin the channel's context anew from here on; the messages stay."""
        await self._rows(
            """
            INSERT INTO resets (channel_id, after_id)
            SELECT ?1, coalesce(max(id), 0) FROM messages WHERE channel_id = ?1
            ON CONFLICT (channel_id) DO UPDATE SET after_id = excluded.after_id
            """,
            channel_id,
        )

    # --- channels --------------------------------------------------------------------------------

    async def set_channel_enabled(self, channel_id: int, guild_id: int, enabled: bool) -> None:
        """Choose whether the bot answers every message of a channel."""
        await self._rows(
            """
            INSERT INTO channels (channel_id, guild_id, enabled) VALUES (?, ?, ?)
            ON CONFLICT (channel_id) DO UPDATE SET enabled = excluded.enabled
            """,
            channel_id,
            guild_id,
            enabled,
        )

    async def enabled_channels(self) -> set[int]:
        """The ids of the channels in which the bot answers every message."""
        return {row[0] for row in await self._rows("SELECT channel_id FROM channels WHERE enabled")}

    # --- models ----------------------------------------------------------------------------------

    async def active_model(self, scope: int) -> str | None:
        """The name of the model that the scope chose last; None if it never did."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT 1"
        rows = await self._rows(sql, scope)
        return rows[0][0] if rows else None

    async def set_active_model(self, scope: int, name: str) -> None:
        """Remember the scope's choice as its newest, unless it is that already."""
        await self._rows(
            """
            INSERT INTO activations (scope, name, created_at) SELECT ?1, ?2, ?3
            WHERE ?2 IS NOT
                (SELECT name FROM activations WHERE scope = ?1 ORDER BY id DESC LIMIT 1)
            """,
            scope,
            name,
            _now(),
        )

    async def roll_back_model(self, scope: int) -> str | None:
        """Drop the scope's newest choice; the one that counts now.

        None if there was none before it: then nothing is dropped.
        """
        rows = await self._rows(
            """
            DELETE FROM activations
            WHERE id = (SELECT max(id) FROM activations WHERE scope = ?1)
              AND id > (SELECT min(id) FROM activations WHERE scope = ?1)
            RETURNING (
                SELECT name FROM activations AS before
                WHERE scope = ?1 AND before.id < activations.id ORDER BY id DESC LIMIT 1
            )
            """,
            scope,
        )
        return rows[0][0] if rows else None

    async def former_models(self, scope: int) -> list[str]:
        """What the scope chose before its present model, newest first."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT -1 OFFSET 1"
        return [row[0] for row in await self._rows(sql, scope)]

    async def active_models(self) -> set[tuple[int, str]]:
        """Each scope that ever chose a model, and the model that it chose last."""
        sql = """
            SELECT scope, name FROM activations
            WHERE id IN (SELECT max(id) FROM activations GROUP BY scope)
        """
        return {(row[0], row[1]) for row in await self._rows(sql)}

    # --- the data set ----------------------------------------------------------------------------

    async def add_example(
        self, scope: int, user: str, bot: str, author_id: int, source: str
    ) -> Example:
        """Add a taught pair; if the scope has the very same one, that one is returned."""
        [row] = await self._rows(
            """
            INSERT INTO examples (scope, user, bot, author_id, source, created_at)
            VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (scope, user, bot) DO UPDATE SET scope = scope RETURNING *
            """,
            scope,
            user,
            bot,
            author_id,
            source,
            _now(),
        )
        return _example(row)

    async def examples(self, scope: int) -> list[Example]:
        """The scope's data set, by id."""
        rows = await self._rows("SELECT * FROM examples WHERE scope = ? ORDER BY id", scope)
        return [_example(row) for row in rows]

    async def count_examples(self, scope: int) -> int:
        """How many examples the scope's data set has."""
        [row] = await self._rows("SELECT count(*) FROM examples WHERE scope = ?", scope)
        return int(row[0])

    async def remove_example(self, scope: int, example_id: int) -> bool:
        """Take an example out of the scope's data set; False if it has none with that id."""
        sql = "DELETE FROM examples WHERE scope = ? AND id = ? RETURNING id"
        return bool(await self._rows(sql, scope, example_id))

    # --- jobs ------------------------------------------------------------------------------------

    async def add_job(
        self, *, scope: int, requested_by: int, channel_id: int, base_model: str, directory: str
    ) -> TrainingJob:
        """Queue a training job."""
        [row] = await self._rows(
            """
            INSERT INTO jobs
                (scope, requested_by, channel_id, base_model, directory, state, created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *
            """,
            scope,
            requested_by,
            channel_id,
            base_model,
            directory,
            JobState.QUEUED.value,
            _now(),
        )
        return _job(row)

    async def set_job_state(
        self,
        job_id: int,
        state: JobState,
        *,
        checkpoint: str | None = None,
        detail: str | None = None,
    ) -> TrainingJob:
        """Move a job on; a `checkpoint` or `detail` that is None stays what it was.

        Raises:
            StoreError: there is no such job.
        """
        rows = await self._rows(
            """
            UPDATE jobs SET state = ?, checkpoint = coalesce(?, checkpoint),
                detail = coalesce(?, detail)
            WHERE id = ? RETURNING *
            """,
            state.value,
            checkpoint,
            detail,
            job_id,
        )
        return _the_job(job_id, rows)

    async def move_job(
        self, job_id: int, before: Collection[JobState], state: JobState, detail: str | None = None
    ) -> TrainingJob | None:
        """Move a job on if it is in one of the states `before`; None if it is not."""
        rows = await self._rows(
            """
            UPDATE jobs SET state = ?, detail = coalesce(?, detail)
            WHERE id = ? AND state IN (SELECT value FROM json_each(?)) RETURNING *
            """,
            state.value,
            detail,
            job_id,
            json.dumps(list(before)),
        )
        return _job(rows[0]) if rows else None

    async def start_job(self, job_id: int) -> TrainingJob | None:
        """A job's process is about to be started, once more; None if the job does not wait."""
        rows = await self._rows(
            """
            UPDATE jobs SET state = ?1, attempts = attempts + 1
            WHERE id = ?2 AND state IN (?1, ?3) RETURNING *
            """,
            JobState.RUNNING.value,
            job_id,
            JobState.QUEUED.value,
        )
        return _job(rows[0]) if rows else None

    async def reset_attempts(self, job_id: int) -> None:
        """A job has got on: what went wrong before does not count any more."""
        await self._rows("UPDATE jobs SET attempts = 0 WHERE id = ?", job_id)

    async def set_job_message(self, job_id: int, message_id: int | None) -> None:
        """Remember which message shows the job's progress; None: no longer any."""
        await self._rows("UPDATE jobs SET message_id = ? WHERE id = ?", message_id, job_id)

    async def job(self, job_id: int) -> TrainingJob | None:
        """The job of that id."""
        rows = await self._rows("SELECT * FROM jobs WHERE id = ?", job_id)
        return _job(rows[0]) if rows else None

    async def open_jobs(self, scope: int | None = None) -> list[TrainingJob]:
        """The jobs that have not ended, by id; those of every scope if it is None."""
        rows = await self._rows(
            """
            SELECT * FROM jobs WHERE state IN (?1, ?2, ?3) AND (?4 IS NULL OR scope = ?4)
            ORDER BY id
            """,
            JobState.QUEUED.value,
            JobState.RUNNING.value,
            JobState.PAUSED.value,
            scope,
        )
        return [_job(row) for row in rows]

    async def latest_job(self, scope: int) -> TrainingJob | None:
        """The scope's newest job."""
        sql = "SELECT * FROM jobs WHERE scope = ? ORDER BY id DESC LIMIT 1"
        rows = await self._rows(sql, scope)
        return _job(rows[0]) if rows else None

    async def jobs(self, scope: int) -> list[TrainingJob]:
        """All jobs that the scope ever had, by id."""
        rows = await self._rows("SELECT * FROM jobs WHERE scope = ? ORDER BY id", scope)
        return [_job(row) for row in rows]

    async def checkpoint_jobs(self, scope: int) -> list[TrainingJob]:
        """The scope's jobs that made a checkpoint, by id."""
        sql = "SELECT * FROM jobs WHERE scope = ? AND checkpoint IS NOT NULL ORDER BY id"
        return [_job(row) for row in await self._rows(sql, scope)]


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """Open the database at `path`, or make it; its folder must exist.

    Raises:
        NewerDatabase: a newer version of the bot wrote it; not a byte of it is changed.
        StoreError: it cannot be opened, or is not a database.
    """
    async with connect(path) as db:
        yield Store(db)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _message(row: sqlite3.Row) -> StoredMessage:
    fields: dict[str, Any] = dict(row)
    message = Message(Role(fields.pop("role")), fields.pop("content"))
    created_at = datetime.fromisoformat(fields.pop("created_at"))
    return StoredMessage(**fields, message=message, created_at=created_at)


def _example(row: sqlite3.Row) -> Example:
    fields: dict[str, Any] = dict(row)
    return Example(**fields | {"created_at": datetime.fromisoformat(row["created_at"])})


def _the_job(job_id: int, rows: list[sqlite3.Row]) -> TrainingJob:
    if not rows:
        raise StoreError(f"There is no training job {job_id}.")
    return _job(rows[0])


def _job(row: sqlite3.Row) -> TrainingJob:
    fields: dict[str, Any] = dict(row)
    created_at = datetime.fromisoformat(row["created_at"])
    return TrainingJob(**fields | {"state": JobState(row["state"]), "created_at": created_at})

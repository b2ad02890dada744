"""Training jobs, and whose words each of them learned.

Knows SQL. Does not know how a job runs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from core.errors import StoreError
from core.records import JobState, TrainingJob
from data.storage.connection import Repository, utc_now_iso
from i18n.phrase import deserialize_phrase, phrase, serialize_phrase


class Jobs(Repository):
    """The training jobs of every scope."""

    async def add(
        self, *, scope: int, requested_by: int, channel_id: int, base_model: str, directory: str
    ) -> TrainingJob:
        """Queue a training job."""
        [row] = await self._fetch_all(
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
            utc_now_iso(),
        )
        return _job(row)

    async def set_state(
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
        rows = await self._fetch_all(
            """
            UPDATE jobs SET state = ?, checkpoint = coalesce(?, checkpoint),
                detail = coalesce(?, detail)
            WHERE id = ? RETURNING *
            """,
            state.value,
            checkpoint,
            detail and serialize_phrase(detail),
            job_id,
        )
        return _the_job(job_id, rows)

    async def transition(
        self,
        job_id: int,
        from_states: Collection[JobState],
        state: JobState,
        detail: str | None = None,
    ) -> TrainingJob | None:
        """Move a job on if it is in one of the states `from_states`; None if it is not."""
        rows = await self._fetch_all(
            """
            UPDATE jobs SET state = ?, detail = coalesce(?, detail)
            WHERE id = ? AND state IN (SELECT value FROM json_each(?)) RETURNING *
            """,
            state.value,
            detail and serialize_phrase(detail),
            job_id,
            json.dumps(list(from_states)),
        )
        return _job(rows[0]) if rows else None

    async def start(self, job_id: int) -> TrainingJob | None:
        """A job's process is about to be started, once more; None if the job does not wait."""
        rows = await self._fetch_all(
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
        await self._fetch_all("UPDATE jobs SET attempts = 0 WHERE id = ?", job_id)

    async def set_message(self, job_id: int, message_id: int | None) -> None:
        """Remember which message shows the job's progress; None: no longer any."""
        await self._fetch_all("UPDATE jobs SET message_id = ? WHERE id = ?", message_id, job_id)

    async def get(self, job_id: int) -> TrainingJob | None:
        """The job of that id."""
        rows = await self._fetch_all("SELECT * FROM jobs WHERE id = ?", job_id)
        return _job(rows[0]) if rows else None

    async def unfinished(self, scope: int | None = None) -> list[TrainingJob]:
        """The jobs that have not ended, by id; those of every scope if it is None."""
        rows = await self._fetch_all(
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

    async def latest(self, scope: int) -> TrainingJob | None:
        """The scope's newest job."""
        sql = "SELECT * FROM jobs WHERE scope = ? ORDER BY id DESC LIMIT 1"
        rows = await self._fetch_all(sql, scope)
        return _job(rows[0]) if rows else None

    async def all(self, scope: int) -> list[TrainingJob]:
        """All jobs that the scope ever had, by id."""
        rows = await self._fetch_all("SELECT * FROM jobs WHERE scope = ? ORDER BY id", scope)
        return [_job(row) for row in rows]

    async def with_checkpoint(self, scope: int) -> list[TrainingJob]:
        """The scope's jobs that made a checkpoint, by id."""
        sql = "SELECT * FROM jobs WHERE scope = ? AND checkpoint IS NOT NULL ORDER BY id"
        return [_job(row) for row in await self._fetch_all(sql, scope)]

    # --- whose words -----------------------------------------------------------------------------

    async def add_sources(self, job_id: int, sources: Mapping[int, int | None]) -> None:
        """Remember whose words a job learns: a member's id, and the version of their consent
        (None: they handed over all of them on purpose)."""
        await self._execute(
            """
            INSERT INTO job_sources (job_id, user_id, consent_version)
            SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?2)
            WHERE true
            ON CONFLICT (job_id, user_id) DO UPDATE SET consent_version = excluded.consent_version
            """,
            job_id,
            json.dumps(list(sources.items())),
        )

    async def sources(self, job_id: int) -> dict[int, int | None]:
        """Whose words a job learned, as they were added."""
        sql = "SELECT user_id, consent_version FROM job_sources WHERE job_id = ?"
        return {row[0]: row[1] for row in await self._fetch_all(sql, job_id)}

    async def with_member(self, user_id: int) -> list[TrainingJob]:
        """All jobs whose snapshot holds words of a member, in every scope, by id."""
        sql = """
            SELECT * FROM jobs WHERE id IN (SELECT job_id FROM job_sources WHERE user_id = ?)
            ORDER BY id
        """
        return [_job(row) for row in await self._fetch_all(sql, user_id)]

    async def trained_on_member(self, user_id: int) -> list[TrainingJob]:
        """The jobs that made a checkpoint from words of a member, in every scope, by id."""
        return [job for job in await self.with_member(user_id) if job.checkpoint is not None]

    async def remove_sources_of_job(self, job_id: int) -> None:
        """A job has learned nothing, and will not."""
        await self._execute("DELETE FROM job_sources WHERE job_id = ?", job_id)

    async def remove_sources_of_member(self, user_id: int) -> int:
        """Forget which jobs learned words of a member: their checkpoints can no longer be named."""
        return await self._execute("DELETE FROM job_sources WHERE user_id = ?", user_id)


def _the_job(job_id: int, rows: list[sqlite3.Row]) -> TrainingJob:
    if not rows:
        raise StoreError(phrase("There is no training job {job}.", job=job_id))
    return _job(rows[0])


def _job(row: sqlite3.Row) -> TrainingJob:
    fields: dict[str, Any] = dict(row)
    fields["state"] = JobState(row["state"])
    fields["created_at"] = datetime.fromisoformat(row["created_at"])
    fields["detail"] = row["detail"] and deserialize_phrase(row["detail"])
    return TrainingJob(**fields)

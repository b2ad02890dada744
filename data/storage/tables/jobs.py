"""Training jobs, and whose words each of them learned."""

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
        """Store a new job, which is queued."""
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
        """Set a job's state; a `checkpoint` or `detail` of None leaves the old value.

        Raises:
            StoreError: there is no such job.
        """
        row = await self._fetch_one(
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
        if row is None:
            raise StoreError(phrase("There is no training job {job}.", job=job_id))
        return _job(row)

    async def transition(
        self,
        job_id: int,
        from_states: Collection[JobState],
        state: JobState,
        detail: str | None = None,
    ) -> TrainingJob | None:
        """Set a job's state if it is in one of `from_states` now; None if it is not."""
        row = await self._fetch_one(
            """
            UPDATE jobs SET state = ?, detail = coalesce(?, detail)
            WHERE id = ? AND state IN (SELECT value FROM json_each(?)) RETURNING *
            """,
            state.value,
            detail and serialize_phrase(detail),
            job_id,
            json.dumps(list(from_states)),
        )
        return _job(row) if row else None

    async def start(self, job_id: int) -> TrainingJob | None:
        """Count an attempt and set a job running; None if it is neither queued nor running."""
        row = await self._fetch_one(
            """
            UPDATE jobs SET state = ?1, attempts = attempts + 1
            WHERE id = ?2 AND state IN (?1, ?3) RETURNING *
            """,
            JobState.RUNNING.value,
            job_id,
            JobState.QUEUED.value,
        )
        return _job(row) if row else None

    async def reset_attempts(self, job_id: int) -> None:
        """Forget earlier attempts: the job has made progress since."""
        await self._fetch_all("UPDATE jobs SET attempts = 0 WHERE id = ?", job_id)

    async def set_message(self, job_id: int, message_id: int | None) -> None:
        """Remember the message that shows the job's progress; None: there is none any more."""
        await self._fetch_all("UPDATE jobs SET message_id = ? WHERE id = ?", message_id, job_id)

    async def get(self, job_id: int) -> TrainingJob | None:
        """The job with that id."""
        row = await self._fetch_one("SELECT * FROM jobs WHERE id = ?", job_id)
        return _job(row) if row else None

    async def unfinished(self, scope: int | None = None) -> list[TrainingJob]:
        """The jobs of a scope (None: of all) that have not ended, by id."""
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
        row = await self._fetch_one(sql, scope)
        return _job(row) if row else None

    async def all(self, scope: int) -> list[TrainingJob]:
        """All jobs of the scope, by id."""
        rows = await self._fetch_all("SELECT * FROM jobs WHERE scope = ? ORDER BY id", scope)
        return [_job(row) for row in rows]

    async def with_checkpoint(self, scope: int) -> list[TrainingJob]:
        """The scope's jobs that have a checkpoint, by id."""
        sql = "SELECT * FROM jobs WHERE scope = ? AND checkpoint IS NOT NULL ORDER BY id"
        return [_job(row) for row in await self._fetch_all(sql, scope)]

    # --- whose words -----------------------------------------------------------------------------

    async def add_sources(self, job_id: int, sources: Mapping[int, int | None]) -> None:
        """Remember whose words a job learns: members' ids, and the versions of their consents
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
        """Whose words a job learned, as `add_sources` got them."""
        sql = "SELECT user_id, consent_version FROM job_sources WHERE job_id = ?"
        return {row[0]: row[1] for row in await self._fetch_all(sql, job_id)}

    async def with_member(self, user_id: int) -> list[TrainingJob]:
        """All jobs whose snapshot holds a member's words, in every scope, by id."""
        sql = """
            SELECT * FROM jobs WHERE id IN (SELECT job_id FROM job_sources WHERE user_id = ?)
            ORDER BY id
        """
        return [_job(row) for row in await self._fetch_all(sql, user_id)]

    async def trained_on_member(self, user_id: int) -> list[TrainingJob]:
        """The jobs that have a checkpoint trained on a member's words, in every scope, by id."""
        return [job for job in await self.with_member(user_id) if job.checkpoint is not None]

    async def remove_sources_of_job(self, job_id: int) -> None:
        """Forget whose words a job learned: it learned nothing after all."""
        await self._execute("DELETE FROM job_sources WHERE job_id = ?", job_id)

    async def remove_sources_of_member(self, user_id: int) -> int:
        """Forget which jobs learned a member's words: their checkpoints can no longer be named."""
        return await self._execute("DELETE FROM job_sources WHERE user_id = ?", user_id)


def _job(row: sqlite3.Row) -> TrainingJob:
    fields: dict[str, Any] = dict(row)
    fields["state"] = JobState(row["state"])
    fields["created_at"] = datetime.fromisoformat(row["created_at"])
    fields["detail"] = row["detail"] and deserialize_phrase(row["detail"])
    return TrainingJob(**fields)

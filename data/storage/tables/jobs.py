"""Training jobs, and whose words each of them learned."""

from __future__ import annotations

import json
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
        sql = """
            INSERT INTO jobs
                (scope, requested_by, channel_id, base_model, directory, state, created_at)
            VALUES (?, ?, ?, ?, ?, 'queued', ?) RETURNING *
        """
        values = (scope, requested_by, channel_id, base_model, directory, utc_now_iso())
        [job] = await self._jobs(sql, *values)
        return job

    async def set_state(
        self,
        job_id: int,
        state: JobState,
        *,
        checkpoint: str | None = None,
        detail: str | None = None,
    ) -> TrainingJob:
        """As `transition` from any state. Raises StoreError if there is no such job."""
        job = await self.transition(job_id, JobState, state, detail, checkpoint)
        if job is None:
            raise StoreError(phrase("There is no training job {job}.", job=job_id))
        return job

    async def transition(
        self,
        job_id: int,
        from_states: Collection[JobState],
        state: JobState,
        detail: str | None = None,
        checkpoint: str | None = None,
    ) -> TrainingJob | None:
        """Set a job's state if it is in one of `from_states`; None if it is not. A `detail` or
        `checkpoint` of None leaves the old value."""
        sql = """
            UPDATE jobs SET state = ?1, detail = coalesce(?2, detail),
                checkpoint = coalesce(?3, checkpoint)
            WHERE id = ?4 AND state IN (SELECT value FROM json_each(?5)) RETURNING *
        """
        stored = detail and serialize_phrase(detail)
        return await self._job(sql, state, stored, checkpoint, job_id, json.dumps([*from_states]))

    async def start(self, job_id: int) -> TrainingJob | None:
        """Count an attempt and set a job running; None if it is neither queued nor running."""
        sql = """
            UPDATE jobs SET state = 'running', attempts = attempts + 1
            WHERE id = ? AND state IN ('queued', 'running') RETURNING *
        """
        return await self._job(sql, job_id)

    async def reset_attempts(self, job_id: int) -> None:
        """Forget earlier attempts: the job has made progress since."""
        await self._execute("UPDATE jobs SET attempts = 0 WHERE id = ?", job_id)

    async def set_message(self, job_id: int, message_id: int | None) -> None:
        """Remember the message that shows the job's progress; None if it was deleted."""
        await self._execute("UPDATE jobs SET message_id = ? WHERE id = ?", message_id, job_id)

    async def get(self, job_id: int) -> TrainingJob | None:
        """The job with that id."""
        return await self._job("SELECT * FROM jobs WHERE id = ?", job_id)

    async def unfinished(self, scope: int | None = None) -> list[TrainingJob]:
        """The jobs of a scope (None: of all) that have not ended, by id."""
        sql = """
            SELECT * FROM jobs WHERE state IN ('queued', 'running', 'paused')
                AND (?1 IS NULL OR scope = ?1) ORDER BY id
        """
        return await self._jobs(sql, scope)

    async def latest(self, scope: int) -> TrainingJob | None:
        """The scope's newest job."""
        return await self._job("SELECT * FROM jobs WHERE scope = ? ORDER BY id DESC LIMIT 1", scope)

    async def all(self, scope: int | None = None) -> list[TrainingJob]:
        """All jobs of a scope (None: of all), by id."""
        sql = "SELECT * FROM jobs WHERE ?1 IS NULL OR scope = ?1 ORDER BY id"
        return await self._jobs(sql, scope)

    async def with_checkpoint(self, scope: int) -> list[TrainingJob]:
        """The scope's jobs that have a checkpoint, by id."""
        return [job for job in await self.all(scope) if job.checkpoint is not None]

    # --- whose words -----------------------------------------------------------------------------

    async def add_sources(self, job_id: int, sources: Mapping[int, int | None]) -> None:
        """Remember whose words a job learns: members' ids, and the versions of their consents
        (None: they taught all of them on purpose)."""
        sql = """
            INSERT INTO job_sources (job_id, user_id, consent_version)
            SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?2)
            WHERE true
            ON CONFLICT (job_id, user_id) DO UPDATE SET consent_version = excluded.consent_version
        """
        await self._execute(sql, job_id, json.dumps(list(sources.items())))

    async def sources(self, job_id: int) -> dict[int, int | None]:
        """Whose words a job learned, as passed to `add_sources`."""
        sql = "SELECT user_id, consent_version FROM job_sources WHERE job_id = ?"
        return {row[0]: row[1] for row in await self._fetch_all(sql, job_id)}

    async def with_member(self, user_id: int) -> list[TrainingJob]:
        """All jobs whose snapshot holds a member's words, in every scope, by id."""
        sql = """
            SELECT * FROM jobs WHERE id IN (SELECT job_id FROM job_sources WHERE user_id = ?)
            ORDER BY id
        """
        return await self._jobs(sql, user_id)

    async def trained_on_member(self, user_id: int) -> list[TrainingJob]:
        """The jobs that have a checkpoint trained on a member's words, in every scope, by id."""
        return [job for job in await self.with_member(user_id) if job.checkpoint is not None]

    async def remove_sources_of_job(self, job_id: int) -> None:
        """Forget whose words a job learned: it learned nothing after all."""
        await self._execute("DELETE FROM job_sources WHERE job_id = ?", job_id)

    async def keep_sources(self, job_id: int, members: Collection[int]) -> None:
        """Forget the other members whose words a job was to learn: it did not."""
        sql = """
            DELETE FROM job_sources
            WHERE job_id = ?1 AND user_id NOT IN (SELECT value FROM json_each(?2))
        """
        await self._execute(sql, job_id, json.dumps(list(members)))

    async def remove_sources_of_member(self, user_id: int) -> int:
        """Forget which jobs learned a member's words: their checkpoints can no longer be named."""
        return await self._execute("DELETE FROM job_sources WHERE user_id = ?", user_id)

    async def _jobs(self, sql: str, *values: object) -> list[TrainingJob]:
        return [_job(dict(row)) for row in await self._fetch_all(sql, *values)]

    async def _job(self, sql: str, *values: object) -> TrainingJob | None:
        return next(iter(await self._jobs(sql, *values)), None)


def _job(fields: dict[str, Any]) -> TrainingJob:
    fields["state"] = JobState(fields["state"])
    fields["created_at"] = datetime.fromisoformat(fields["created_at"])
    fields["detail"] = fields["detail"] and deserialize_phrase(fields["detail"])
    return TrainingJob(**fields)

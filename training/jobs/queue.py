"""The queue of training jobs: which runs next, and every change of a job's state.

Knows the table of jobs and who listens to it. Does not know processes, data sets or checkpoints.
One job runs at a time, in order of arrival; a scope has one job at a time that has not ended.

    QUEUED -> RUNNING -> PROMOTED | REJECTED | FAILED | CANCELLED | INTERRUPTED
       ^         |
       +- PAUSED-+   and back to QUEUED when the bot stops, or the child dies, in the middle
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from core.records import JobState, TrainingJob
from data.storage.tables.jobs import Jobs
from i18n.phrase import phrase
from training.errors import JOB_ALREADY_OPEN, JobAlreadyOpen
from training.jobs.events import Event
from training.jobs.folder import CONFIG_FILE
from training.jobs.outcome import REQUEUED, JobOutcome, paused_message

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """News of a job: an event of its run, or (None) a new state."""

    job: TrainingJob
    event: Event | None


OnUpdate = Callable[[JobUpdate], Awaitable[None]]


class JobQueue:
    """The jobs of all scopes. `on_update` is told of each new state and each event."""

    def __init__(self, jobs: Jobs, on_update: OnUpdate) -> None:
        self._jobs = jobs
        self._on_update = on_update
        self._opening = asyncio.Lock()
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._closed = False

    async def recover(self) -> None:
        """Queue the job again that was running when the bot was killed."""
        for job in await self._jobs.unfinished():
            if job.state is JobState.RUNNING:
                await self.set_outcome(job, REQUEUED)

    def close(self) -> None:
        """Hand out no more jobs."""
        self._closed = True
        self._wake.set()

    @asynccontextmanager
    async def opening(self, scope: int) -> AsyncIterator[None]:
        """Inside, the scope may open one job, and nobody else opens one meanwhile.

        Raises:
            JobAlreadyOpen: the scope has a job that has not ended.
        """
        async with self._opening:
            if await self._jobs.unfinished(scope):
                raise JobAlreadyOpen(JOB_ALREADY_OPEN)
            yield

    async def announce(self, job: TrainingJob) -> None:
        """A job was queued: tell the listener, and run it when its turn comes."""
        await self._notify_state(job)
        self._wake.set()

    async def next_job(self) -> TrainingJob | None:
        """The oldest job that may run, waiting for one; None once the queue is closed."""
        while not self._closed:
            self._wake.clear()  # before looking, or a job queued meanwhile would be missed
            waiting = await self._jobs.unfinished()
            if job := next((one for one in waiting if one.state is not JobState.PAUSED), None):
                return job
            await self._wake.wait()
        return None

    async def start(self, job_id: int) -> TrainingJob | None:
        """Mark a job as running; None if it was paused or cancelled since it was chosen."""
        started = await self._jobs.start(job_id)
        if started is not None:
            await self._notify_state(started)
        return started

    async def cancel(self, job_id: int) -> TrainingJob | None:
        """Cancel a job that is queued or paused; None if it is neither."""
        detail = phrase("The training was cancelled.")
        waiting = (JobState.QUEUED, JobState.PAUSED)
        job = await self._jobs.transition(job_id, waiting, JobState.CANCELLED, detail)
        if job is not None:
            await self._notify_state(job)
        return job

    async def pause(self, job_id: int) -> bool:
        """Keep a queued job from beginning; False if it is not queued."""
        waiting = await self._jobs.get(job_id)
        if waiting is None:
            return False
        detail = paused_message(waiting)
        job = await self._jobs.transition(job_id, (JobState.QUEUED,), JobState.PAUSED, detail)
        if job is not None:
            await self._notify_state(job)
        return job is not None

    async def resume(self, job_id: int) -> bool:
        """Queue a paused or interrupted job again; False if it is neither.

        Raises:
            JobAlreadyOpen: it was interrupted, and the scope has another job by now.
        """
        job = await self._jobs.get(job_id)
        match job:
            case TrainingJob(state=JobState.PAUSED):
                return await self._requeue(job)
            case TrainingJob(state=JobState.INTERRUPTED):  # a final state: another may be open
                async with self.opening(job.scope):
                    has_folder = (Path(job.directory) / CONFIG_FILE).is_file()
                    return has_folder and await self._requeue(job)
            case _:
                return False

    async def _requeue(self, job: TrainingJob) -> bool:
        await self._jobs.reset_attempts(job.id)
        moved = await self._jobs.transition(job.id, (job.state,), JobState.QUEUED)
        if moved is not None:
            await self.announce(moved)
        return moved is not None

    async def set_outcome(self, job: TrainingJob, outcome: JobOutcome) -> None:
        """Store what became of an attempt, and tell the listener."""
        moved = await self._jobs.set_state(
            job.id, outcome.state, checkpoint=outcome.checkpoint, detail=outcome.detail
        )
        await self._notify_state(moved)

    async def wait_until(self, job_id: int, true: Callable[[TrainingJob], bool]) -> TrainingJob:
        """The job, once something is true of it."""
        async with self._changed:
            while (job := await self._jobs.get(job_id)) is None or not true(job):
                await self._changed.wait()
            return job

    async def _notify_state(self, job: TrainingJob) -> None:
        await self.notify(JobUpdate(job, None))
        async with self._changed:
            self._changed.notify_all()

    async def notify(self, update: JobUpdate) -> None:
        """Tell the listener; its failure is logged, and does not stop the job."""
        try:
            await self._on_update(update)
        except Exception:
            log.exception("the listener failed on an update of job %d", update.job.id)

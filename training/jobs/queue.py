"""The queue of training jobs: at most one unfinished job per scope, and one turn after the other.

The scopes take turns: next is the job whose scope has waited longest since its last turn, which
ended when its job did, or was paused; of scopes that had none, the one that came first.

Makes every state change. Does not know processes, data sets or checkpoints.

    QUEUED -> RUNNING -> PROMOTED | REJECTED | FAILED | CANCELLED | INTERRUPTED
       ^         |
       +- PAUSED-+   RUNNING -> QUEUED when the bot stops, or the child dies, during the run
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
    """An event of a job's run; None: its state changed."""

    job: TrainingJob
    event: Event | None


OnUpdate = Callable[[JobUpdate], Awaitable[None]]


class JobQueue:
    """The jobs of all scopes. `on_update` is called for each state change and each event."""

    def __init__(self, jobs: Jobs, on_update: OnUpdate) -> None:
        self._jobs = jobs
        self._on_update = on_update
        self._opening = asyncio.Lock()
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._closed = False
        self._taken: set[int] = set()
        self._turns: dict[int, int] = {}
        """When the last turn of a scope ended: the number of turns that all had until then."""

    async def recover(self) -> None:
        """Requeue the jobs that were running when the bot was killed."""
        for job in await self._jobs.unfinished():
            if job.state is JobState.RUNNING:
                await self.set_outcome(job, REQUEUED)

    def close(self) -> None:
        """Make `next_job` return None."""
        self._closed = True
        self._wake.set()

    @asynccontextmanager
    async def opening(self, scope: int) -> AsyncIterator[None]:
        """A lock under which the scope may open one job. Raises JobAlreadyOpen if the scope has an
        unfinished job."""
        async with self._opening:
            if await self._jobs.unfinished(scope):
                raise JobAlreadyOpen(JOB_ALREADY_OPEN)
            yield

    async def announce(self, job: TrainingJob) -> None:
        """Tell the listener and `next_job` about a newly queued job."""
        await self._notify_state(job)
        self._wake.set()

    @asynccontextmanager
    async def next_job(self) -> AsyncIterator[TrainingJob | None]:
        """Wait for the next job that may run, which is nobody else's inside the block; None once
        the queue is closed."""
        job = await self._take_job()
        try:
            yield job
        finally:
            if job is not None:
                self._taken.discard(job.id)
                self._wake.set()

    async def _take_job(self) -> TrainingJob | None:
        while not self._closed:
            self._wake.clear()  # before the query, or a job queued during it would be missed
            waiting = [one for one in await self._jobs.unfinished() if self._may_run(one)]
            if waiting:
                job = min(waiting, key=lambda one: (self._turns.get(one.scope, 0), one.id))
                self._taken.add(job.id)
                self._wake.set()  # there may be another one for somebody else who waits
                return job
            await self._wake.wait()
        return None

    def _may_run(self, job: TrainingJob) -> bool:
        return job.state is not JobState.PAUSED and job.id not in self._taken

    async def start(self, job_id: int) -> TrainingJob | None:
        """Mark a job as running; None if it was paused or cancelled in the meantime."""
        return await self._notify_if(await self._jobs.start(job_id))

    async def cancel(self, job_id: int) -> TrainingJob | None:
        """Cancel a queued or paused job; None if it is neither."""
        detail = phrase("The training was cancelled.")
        waiting = (JobState.QUEUED, JobState.PAUSED)
        job = await self._jobs.transition(job_id, waiting, JobState.CANCELLED, detail)
        return await self._notify_if(job)

    async def pause(self, job_id: int) -> bool:
        """Pause a queued job; False if it is not queued."""
        if (job := await self._jobs.get(job_id)) is None:
            return False
        detail = paused_message(job)
        paused = await self._jobs.transition(job_id, (JobState.QUEUED,), JobState.PAUSED, detail)
        return await self._notify_if(paused) is not None

    async def resume(self, job_id: int) -> bool:
        """Queue a paused or interrupted job again; False if it is neither. Raises JobAlreadyOpen if
        the interrupted job's scope has another unfinished job."""
        job = await self._jobs.get(job_id)
        match job:
            case TrainingJob(state=JobState.PAUSED):
                return await self._requeue(job)
            case TrainingJob(state=JobState.INTERRUPTED):  # final, so another job may be open
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
        """Store the outcome of an attempt, and tell the listener."""
        moved = await self._jobs.set_state(
            job.id, outcome.state, checkpoint=outcome.checkpoint, detail=outcome.detail
        )
        if outcome.state is not JobState.QUEUED:
            self._turns[job.scope] = 1 + max(self._turns.values(), default=0)
        await self._notify_state(moved)

    async def wait_until(self, job_id: int, is_met: Callable[[TrainingJob], bool]) -> TrainingJob:
        """Wait until a condition of the job is met."""
        async with self._changed:
            while (job := await self._jobs.get(job_id)) is None or not is_met(job):
                await self._changed.wait()
            return job

    async def _notify_if(self, changed: TrainingJob | None) -> TrainingJob | None:
        if changed is not None:
            await self._notify_state(changed)
        return changed

    async def _notify_state(self, job: TrainingJob) -> None:
        await self.notify(JobUpdate(job, None))
        async with self._changed:
            self._changed.notify_all()

    async def notify(self, update: JobUpdate) -> None:
        """Call the listener; its errors are logged, and don't stop the job."""
        try:
            await self._on_update(update)
        except Exception:
            log.exception("the listener failed on an update of job %d", update.job.id)

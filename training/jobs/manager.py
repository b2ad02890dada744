"""Training jobs as the bot sees them: preview, submit, pause, resume, cancel, discard.

Puts the parts together: the queue, one run at a time, the snapshot that it reads, the promotion of
what it made. Does not know Discord or the worker's client: how a checkpoint is put into service,
and who is told, is handed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from core.errors import StoreError
from core.logging import LogFormat
from core.records import JobState, TrainingJob
from data.storage.storage import Storage
from model.registry import ModelOption
from training.checkpoints import Manifest, iter_checkpoints, remove_checkpoint
from training.config import TrainingConfig
from training.jobs import outcome
from training.jobs.events import Event, Finished, Rejected, Saved
from training.jobs.job_run import JobRun, Phase, Request
from training.jobs.outcome import JobOutcome
from training.jobs.preview import Preview, measured_speed, preview
from training.jobs.promotion import ApplyRetention, Promote, Promotion
from training.jobs.queue import JobQueue, JobUpdate, OnUpdate
from training.jobs.snapshot import Snapshots, discard, remove_work_files

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
"""Seconds that a run gets to save what it has when the bot stops."""
STORE_RETRY_S = 30.0
"""Seconds after which a database that failed is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLimits:
    """How much training may take. `threads` of computation (None: the library's choice);
    `author_share` of the examples that one member may give; `launcher` starts a run on several
    devices (`accelerate launch` and its options), and its log is written in `log_format`."""

    threads: int | None = None
    author_share: float = 0.5
    launcher: tuple[str, ...] = ()
    log_format: LogFormat = "text"


class TrainingManager:
    """Runs the jobs of all scopes, one after the other, in folders below `job_root`; what they
    make is kept below `checkpoints`.

    `promote(job, folder)` puts a checkpoint into service or raises; `on_update` is told of
    everything; `apply_retention(folder)` is called once a checkpoint was kept; `reserved_names` are
    names that no checkpoint may have, as other models have them. An async context manager: jobs
    run inside it. One that was running when the bot stopped, or was killed, goes on at the next
    start, from the last step that was saved.
    """

    def __init__(
        self,
        storage: Storage,
        job_root: Path,
        checkpoints: Path,
        *,
        promote: Promote,
        on_update: OnUpdate,
        apply_retention: ApplyRetention,
        limits: TrainingLimits | None = None,
        reserved_names: Collection[str] = (),
    ) -> None:
        self._jobs = storage.jobs
        self._checkpoints = checkpoints
        self._limits = limits or TrainingLimits()
        self._queue = JobQueue(storage.jobs, on_update)
        self._promotion = Promotion(self._checkpoints, promote, apply_retention)
        self._snapshots = Snapshots(
            storage.examples,
            storage.jobs,
            job_root,
            checkpoints,
            author_share=self._limits.author_share,
            reserved_names=reserved_names,
        )
        self._run: JobRun | None = None
        self._queue_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._queue.recover()
        self._queue_task = asyncio.create_task(self._process_queue(), name="training queue")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._queue_task is not None  # it was entered
        self._queue.close()
        if self._run is not None:
            await self._run.stop()
        await asyncio.wait({self._queue_task}, timeout=STOP_TIMEOUT_S)
        self._queue_task.cancel()
        await asyncio.gather(self._queue_task, return_exceptions=True)

    async def preview(self, scope: int, base: ModelOption, config: TrainingConfig) -> Preview:
        """What a job would learn, and what it would take.

        Raises:
            EmptyDataset: nothing was taught.
        """
        selection = await self._snapshots.select(scope)
        former = await asyncio.to_thread(self.checkpoints, scope)
        speed = measured_speed([manifest for _, manifest in former], base.name, config.method)
        return await asyncio.to_thread(preview, selection, self._apply_limits(config), speed)

    async def submit(
        self,
        *,
        scope: int,
        requested_by: int,
        channel_id: int,
        base: ModelOption,
        config: TrainingConfig,
    ) -> TrainingJob:
        """Freeze the scope's data set and queue a job that learns it.

        Raises:
            JobAlreadyOpen: the scope has a job that has not ended.
            EmptyDataset: nothing was taught.
            DiskFull, StoreError: the snapshot could not be written; nothing is left behind.
        """
        async with self._queue.opening(scope):
            while True:
                snapshot = await self._snapshots.take(scope, base.name, self._apply_limits(config))
                try:
                    job = await self._jobs.add(
                        scope=scope,
                        requested_by=requested_by,
                        channel_id=channel_id,
                        base_model=base.name,
                        directory=str(snapshot.folder),
                    )
                    await self._jobs.add_sources(job.id, snapshot.sources)
                except StoreError:
                    discard(snapshot.folder)  # without it, a job that was added does not run
                    raise
                if await self._snapshots.is_still_permitted(snapshot):
                    break
                log.info("a member withdrew their words meanwhile: the data is frozen once more")
                await self.cancel(job.id)
                await asyncio.to_thread(discard, snapshot.folder)
                await self._jobs.remove_sources_of_job(job.id)
        await self._queue.announce(job)
        return job

    async def cancel(self, job_id: int) -> bool:
        """End a job that is queued, running or paused.

        False if it has ended, or its checkpoint is being put into service.
        """
        if run := self._run_of(job_id):
            return await run.cancel()
        job = await self._queue.cancel(job_id)
        if job is not None:
            await asyncio.to_thread(remove_work_files, job)
        return job is not None

    async def pause(self, job_id: int) -> bool:
        """Save and stop a running job, or keep a queued one from beginning.

        False if it is neither, or has taken its last step.
        """
        if run := self._run_of(job_id):
            return await run.pause()
        return await self._queue.pause(job_id)

    async def resume(self, job_id: int) -> bool:
        """Let a paused job go on, or one that was interrupted; False if it is neither.

        Raises:
            JobAlreadyOpen: it was interrupted, and the scope has another job by now.
        """
        return await self._queue.resume(job_id)

    async def discard(self, job: TrainingJob) -> None:
        """End a job if it has not ended, and remove its data set, log and saved steps.

        Its checkpoint stays: that is no longer in its folder.

        Raises:
            StoreError: something of it could not be removed.
        """
        if not job.state.is_final:
            await self.cancel(job.id)
            await self.wait(job.id)
        await self._snapshots.remove(job)

    def hold(self) -> None:
        """Replies are slow: hold the run under way for a while."""
        if self._run is not None:
            self._run.hold()

    async def wait(self, job_id: int) -> TrainingJob:
        """The job, once it has ended."""
        return await self._queue.wait_until(job_id, lambda job: job.state.is_final)

    def checkpoints(self, scope: int) -> list[tuple[Path, Manifest]]:
        """The scope's checkpoints that are complete."""
        return list(iter_checkpoints(self._checkpoints / str(scope)))

    def _apply_limits(self, config: TrainingConfig) -> TrainingConfig:
        wanted = filter(None, (self._limits.threads, config.threads))
        return replace(config, threads=min(wanted, default=None))

    def _run_of(self, job_id: int) -> JobRun | None:
        return self._run if self._run is not None and self._run.job.id == job_id else None

    # --- the life of one job ---------------------------------------------------------------------

    async def _process_queue(self) -> None:
        while True:
            try:
                job = await self._queue.next_job()
                if job is None:
                    return
                await self._run_job(job)
            except StoreError as e:  # the job is still marked as running, so it is tried again
                log.error("the training queue waits %.0f s for the database: %s", STORE_RETRY_S, e)
                await asyncio.sleep(STORE_RETRY_S)

    async def _run_job(self, job: TrainingJob) -> None:
        former = self._run_of(job.id)  # the database failed under it: a cancel still counts
        run = self._run = JobRun(job, former.requested if former else Request.NONE)
        if started := await self._queue.start(job.id):
            run.job = started
            result = await self._execute_and_deploy(run)
            await self._finish(run, result)
        self._run = None

    async def _execute_and_deploy(self, run: JobRun) -> JobOutcome:
        try:
            made = await self._execute(run)
            return await self._deploy(run, made) if isinstance(made, Path) else made
        except asyncio.CancelledError:  # the bot stops, and the run took too long to save
            await self._queue.set_outcome(run.job, outcome.REQUEUED)
            raise
        except StoreError:
            raise
        except Exception as e:  # the queue must outlive whatever goes wrong with one job
            log.exception("job %d failed", run.job.id)
            return outcome.failed(e)

    async def _execute(self, run: JobRun) -> Path | JobOutcome:
        """Train in a child process: the checkpoint, or what became of the job without one."""
        made = await asyncio.to_thread(self._promotion.find, run.job)
        if made is not None:  # the bot was killed after the run had ended
            run.phase = Phase.CHECKING
            return made
        if run.is_pausing:
            return outcome.paused(run.job)

        async def on_event(event: Event) -> None:
            if isinstance(event, Saved):
                await self._jobs.reset_attempts(run.job.id)
            await self._queue.notify(JobUpdate(run.job, event))

        limits = self._limits
        last, exit_status = await run.execute(on_event, limits.launcher, limits.log_format)
        if run.is_cancelled:
            return outcome.CANCELLED
        if isinstance(last, Finished | Rejected):
            return await asyncio.to_thread(self._promotion.store, run.job, Path(last.checkpoint))
        return outcome.without_checkpoint(run.job, last, exit_status, pausing=run.is_pausing)

    async def _deploy(self, run: JobRun, checkpoint: Path) -> JobOutcome:
        """Put the checkpoint into service, or reject it; from here on nobody can cancel."""
        if run.is_cancelled:
            await asyncio.to_thread(remove_checkpoint, checkpoint)
            return outcome.CANCELLED
        run.phase = Phase.DECIDED
        return await self._promotion.promote_or_reject(run.job, checkpoint)

    async def _finish(self, run: JobRun, result: JobOutcome) -> None:
        """Store the outcome, tell it, and remove what is no longer needed."""
        if run.is_cancelled and run.phase is not Phase.DECIDED:
            result = outcome.CANCELLED  # the button was pressed when the process had just ended
        run.phase = Phase.DECIDED
        await self._queue.set_outcome(run.job, result)
        if result.state.is_final and result.state is not JobState.INTERRUPTED:
            await asyncio.to_thread(remove_work_files, run.job)

"""Manages training jobs: preview, submit, pause, resume, cancel, discard.

Combines the queue, the runs under way, snapshots of the data and the promotion of checkpoints.
Knows neither Discord nor the worker: callbacks put a checkpoint into service and report progress.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from core.errors import StoreError
from core.records import JobState, TrainingJob
from data.storage.storage import Storage
from model.convert.adapter_folder import BASES_DIR
from model.registry import ModelOption
from training.checkpoints import Manifest, iter_checkpoints, read_report, remove_checkpoint
from training.config import TrainingConfig
from training.jobs import outcome
from training.jobs.events import Event, Finished, Loading, Rejected, Saved
from training.jobs.job_run import JobRun, Phase, Request
from training.jobs.launch import Launch
from training.jobs.outcome import JobOutcome
from training.jobs.preview import Preview, newest_measured, preview
from training.jobs.process import TrainingProcess
from training.jobs.promotion import ApplyRetention, Promote, Promotion
from training.jobs.queue import JobQueue, JobUpdate, OnUpdate
from training.jobs.snapshot import (
    MayStillSay,
    Snapshots,
    discard,
    remove_data,
    remove_work_files,
)

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
"""How long a run may take to save its state when the bot stops."""
STORE_RETRY_S = 30.0
"""How long the queue waits after a database error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLimits:
    """Limits of all runs, and how they are launched.

    `threads`: None leaves them to the library. `author_share`: the most that one member may
    contribute. `runs`: how many go on at the same time, each of another scope."""

    threads: int | None = None
    author_share: float = 0.5
    runs: int = 1
    launch: Launch = TrainingProcess.launch


class TrainingManager:
    """Runs the jobs of all scopes, `limits.runs` at a time, inside `async with`.

    `promote(job, folder)` puts a checkpoint into service or raises; `apply_retention(folder)` is
    called after each new checkpoint; `reserved_names` are taken by other models; without `may_say`
    nothing is learned from votes. Jobs that were running when the bot stopped or was killed resume
    at the next start from their last saved step.
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
        may_say: MayStillSay | None = None,
    ) -> None:
        self._jobs, self._golden = storage.jobs, storage.golden
        self._checkpoints = checkpoints
        self._limits = limits or TrainingLimits()
        self._queue = JobQueue(storage.jobs, on_update)

        async def announce_and_promote(job: TrainingJob, folder: Path) -> bool:
            await self._queue.notify(JobUpdate(job, Loading()))
            return await promote(job, folder)

        self._promotion = Promotion(self._checkpoints, announce_and_promote, apply_retention)
        share = self._limits.author_share
        self._snapshots = Snapshots(storage, job_root, checkpoints, share, reserved_names, may_say)
        self._runs: dict[int, JobRun] = {}
        self._deploying = asyncio.Lock()
        self._queue_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._queue.recover()
        for job in await self._snapshots.recover():
            await self.cancel(job.id)
        self._queue_task = asyncio.create_task(self._process_queue(), name="training queue")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._queue_task is not None  # it was entered
        self._queue.close()
        for run in list(self._runs.values()):
            await run.request(Request.STOP)
        await asyncio.wait({self._queue_task}, timeout=STOP_TIMEOUT_S)
        self._queue_task.cancel()
        await asyncio.gather(self._queue_task, return_exceptions=True)

    async def preview(self, scope: int, base: ModelOption, config: TrainingConfig) -> Preview:
        """What a job would learn, and an estimate of its time and memory. Raises EmptyDataset if
        nothing was taught."""
        selection = await self._snapshots.select(scope)
        previous = await asyncio.to_thread(self.checkpoints, scope)
        manifests = [manifest for _, manifest in previous]
        earlier = newest_measured(manifests, base.name, config.method)
        shown = await asyncio.to_thread(preview, selection, self._apply_limits(config), earlier)
        judged = await self._snapshots.judged(scope, selection.kept)
        return replace(shown, preferences=judged.counts if judged else None)

    async def submit(
        self,
        *,
        scope: int,
        requested_by: int,
        channel_id: int,
        base: ModelOption,
        config: TrainingConfig,
    ) -> TrainingJob:
        """Snapshot the scope's data set and queue a job that trains on it.

        Raises:
            JobAlreadyOpen: the scope has an unfinished job.
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
                    # a job that was added cannot run without it
                    await asyncio.to_thread(discard, snapshot.folder)
                    raise
                if await self._snapshots.is_still_permitted(snapshot):
                    break
                # The member withdrew after the snapshot but before its sources were stored, so the
                # withdrawal could not find this job. Start over.
                log.info("consent was withdrawn during the snapshot of job %d: retrying", job.id)
                await self.cancel(job.id)
                await asyncio.to_thread(discard, snapshot.folder)
                await self._jobs.remove_sources_of_job(job.id)
        await self._queue.announce(job)
        return job

    async def cancel(self, job_id: int) -> bool:
        """Cancel a job; False if it has ended, or its checkpoint is being put into service."""
        if run := self._runs.get(job_id):
            return await run.cancel()
        job = await self._queue.cancel(job_id)
        if job is not None:
            await asyncio.to_thread(remove_data, job)
        return job is not None

    async def pause(self, job_id: int) -> bool:
        """Pause a queued or running job; False if it is neither, or past its last step."""
        if run := self._runs.get(job_id):
            return await run.pause()
        return await self._queue.pause(job_id)

    async def resume(self, job_id: int) -> bool:
        """Queue a paused or interrupted job again; False if it is neither. Raises JobAlreadyOpen if
        the interrupted job's scope has another unfinished job."""
        return await self._queue.resume(job_id)

    async def discard(self, job: TrainingJob) -> None:
        """Cancel an unfinished job, and remove its folder. Its checkpoint, stored elsewhere, stays.
        Raises StoreError: the folder could not be removed completely."""
        if not job.state.is_final:
            await self.cancel(job.id)
            await self.wait(job.id)
        await self._snapshots.remove(job)

    async def trim(self) -> None:
        """Remove the data of ended jobs without a checkpoint, or whose checkpoint is gone."""
        await self._snapshots.trim()

    def hold(self) -> None:
        """Hold the runs under way for a while, because replies are slow."""
        for run in self._runs.values():
            run.hold()

    async def wait(self, job_id: int) -> TrainingJob:
        """Wait until the job has ended."""
        return await self._queue.wait_until(job_id, lambda job: job.state.is_final)

    def checkpoints(self, scope: int) -> list[tuple[Path, Manifest]]:
        return list(iter_checkpoints(self._checkpoints / str(scope)))

    def _apply_limits(self, config: TrainingConfig) -> TrainingConfig:
        threads = filter(None, (self._limits.threads, config.threads))
        return replace(
            config,
            threads=min(threads, default=None),
            shared_bases=str(self._checkpoints / BASES_DIR),
        )

    # --- the life of one job ---------------------------------------------------------------------

    async def _process_queue(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._limits.runs):
                group.create_task(self._run_jobs())

    async def _run_jobs(self) -> None:
        """Run one job after the other, until the queue is closed."""
        while True:
            try:
                async with self._queue.next_job() as job:
                    if job is None:
                        return
                    await self._run_job(job)
            except StoreError as e:  # the job is still marked as running, so it will be retried
                log.error("the training queue waits %.0f s for the database: %s", STORE_RETRY_S, e)
                await asyncio.sleep(STORE_RETRY_S)

    async def _run_job(self, job: TrainingJob) -> None:
        previous = self._runs.get(job.id)  # set if a database error ended it: keep its cancellation
        run = self._runs[job.id] = JobRun(job, previous.requested if previous else Request.NONE)
        if started := await self._queue.start(job.id):
            run.job = started
            await self._finish(run, await self._execute_and_deploy(run))
        del self._runs[job.id]

    async def _execute_and_deploy(self, run: JobRun) -> JobOutcome:
        try:
            made = await self._execute(run)
            if not isinstance(made, Path):
                return made
            async with self._deploying:  # what makes room for one must not remove another
                return await self._deploy(run, made)
        except asyncio.CancelledError:  # the bot stops, and saving took over STOP_TIMEOUT_S
            await self._queue.set_outcome(run.job, outcome.REQUEUED)
            raise
        except StoreError:
            raise
        except Exception as e:  # one job's failure must not stop the queue
            log.exception("job %d failed", run.job.id)
            return outcome.failed(e)

    async def _execute(self, run: JobRun) -> Path | JobOutcome:
        """Train; return the checkpoint, or the outcome without one."""
        made = await asyncio.to_thread(self._promotion.find, run.job)
        if made is not None:  # the bot was killed between training and promotion
            run.phase = Phase.CHECKING
            return made
        if run.is_pausing:
            return outcome.paused(run.job)

        async def on_event(event: Event) -> None:
            if isinstance(event, Saved):
                await self._jobs.reset_attempts(run.job.id)
            await self._queue.notify(JobUpdate(run.job, event))

        last, exit_status = await run.execute(on_event, self._limits.launch)
        if run.requested is Request.CANCEL:
            return outcome.CANCELLED
        if isinstance(last, Finished | Rejected):
            return Path(last.checkpoint)
        return outcome.without_checkpoint(run.job, last, exit_status, pausing=run.is_pausing)

    async def _deploy(self, run: JobRun, made: Path) -> JobOutcome:
        """Promote or reject the checkpoint; from here on the job cannot be cancelled."""
        checkpoint = await asyncio.to_thread(self._promotion.store, run.job, made)
        if run.requested is Request.CANCEL:
            await asyncio.to_thread(remove_checkpoint, checkpoint)
            return outcome.CANCELLED
        run.phase = Phase.DECIDED
        await self._snapshots.forget_unlearned(run.job)
        await self._record_golden(run.job, checkpoint)
        return await self._promotion.promote_or_reject(run.job, checkpoint)

    async def _record_golden(self, job: TrainingJob, checkpoint: Path) -> None:
        """Keep how a new checkpoint answered the golden questions, whether it serves or not."""
        if report := await asyncio.to_thread(read_report, checkpoint):
            await self._golden.record(job.scope, report.golden_scores(checkpoint.name))

    async def _finish(self, run: JobRun, result: JobOutcome) -> None:
        """Store and announce the outcome, and remove files that are no longer needed."""
        if run.requested is Request.CANCEL and run.phase is not Phase.DECIDED:
            result = outcome.CANCELLED  # cancelled just after the process had ended
        run.phase = Phase.DECIDED
        await self._queue.set_outcome(run.job, result)
        if result.state.is_final and result.state is not JobState.INTERRUPTED:
            await asyncio.to_thread(remove_work_files, run.job)
            await self.trim()

"""The life of a training job: queued, run in a child process, checked, put into service.

Knows the store and the child's events. Does not know Discord or the worker's client: how a
checkpoint is put into service, and who is told, is handed in. One job runs at a time; the others
wait in order of arrival.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from data.cleaning import newest_answers
from data.errors import NO_ROOM, DiskFull, StoreError, not_written
from data.export import write_snapshot
from data.schema import Example, JobState, TrainingJob
from data.store import Store
from model.errors import ModelError
from model.registry import ModelOption
from training.checkpoints import Manifest, verify, whole_checkpoints
from training.config import TrainingConfig
from training.errors import ChildFailed, EmptyDataset, JobRunning, TrainingError
from training.progress import Event, Failed, Finished, Rejected, duration, from_line

log = logging.getLogger(__name__)

KILL_S = 5.0
"""Seconds between asking a child to end and ending it."""
STAYS = "The model that was in service stays."


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """News of a job: an event of its run, or (None) a new state."""

    job: TrainingJob
    event: Event | None


Promote = Callable[[TrainingJob, Path], Awaitable[None]]
OnUpdate = Callable[[JobUpdate], Awaitable[None]]


class TrainingManager:
    """Runs the jobs of all scopes, one after the other.

    `promote(job, folder)` puts a checkpoint into service or raises; `on_update` is told of
    everything. An async context manager: the queue is worked on inside it. A job that was running
    when the bot stopped is marked as interrupted at the next start; queued ones go on waiting.
    """

    def __init__(self, store: Store, root: Path, *, promote: Promote, on_update: OnUpdate) -> None:
        self._store = store
        self._jobs = root / "jobs"
        self._checkpoints = root / "checkpoints"
        self._promote = promote
        self._on_update = on_update
        self._submitting = asyncio.Lock()
        self._wake = asyncio.Event()
        self._ended = asyncio.Condition()
        self._current: tuple[int, Process] | None = None
        self._cancelled: set[int] = set()
        self._queue: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for job in await self._store.open_jobs():
            if job.state is JobState.RUNNING:
                detail = "The training was interrupted when the bot stopped. Start it again."
                await self._move(job, JobState.INTERRUPTED, detail)
        self._queue = asyncio.create_task(self._work(), name="training queue")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._queue is not None:
            self._queue.cancel()
            await asyncio.gather(self._queue, return_exceptions=True)

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
            JobRunning: the scope has a job that has not ended.
            EmptyDataset: nothing was taught.
            DiskFull, StoreError: the snapshot could not be written; nothing is left behind.
        """
        async with self._submitting:
            if await self._store.open_jobs(scope):
                raise JobRunning("A training job is under way in this server already.")
            examples = newest_answers(await self._store.examples(scope))
            if not examples:
                raise EmptyDataset("There is nothing to learn from yet: teach me something first.")
            config = replace(config, name=await self._new_name(scope, base.name))
            folder = self._jobs / uuid.uuid4().hex
            try:
                await asyncio.to_thread(_prepare, folder, examples, config)
                job = await self._store.add_job(
                    scope=scope,
                    requested_by=requested_by,
                    channel_id=channel_id,
                    base_model=base.name,
                    directory=str(folder),
                )
            except StoreError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        await self._tell(JobUpdate(job, None))
        self._wake.set()
        return job

    async def cancel(self, job_id: int) -> bool:
        """Stop a job that is queued or running; False if it has ended."""
        job = await self._store.job(job_id)
        if job is None or job.state.is_final:
            return False
        self._cancelled.add(job_id)
        if self._current and self._current[0] == job_id:
            await _end(self._current[1])
        elif job.state is JobState.QUEUED:
            await self._move(job, JobState.CANCELLED, "The training was cancelled.")
        return True

    async def wait(self, job_id: int) -> TrainingJob:
        """The job, once it has ended."""
        async with self._ended:
            while (job := await self._store.job(job_id)) is None or not job.state.is_final:
                await self._ended.wait()
            return job

    def checkpoints(self, scope: int) -> list[tuple[Path, Manifest]]:
        """The scope's checkpoints, whole ones only."""
        return list(whole_checkpoints(self._checkpoints / str(scope)))

    # --- the queue -------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                if job := next(iter(await self._store.open_jobs()), None):
                    await self._run(job)
                    continue
            except StoreError as e:
                log.error("the training queue pauses: %s", e)
            await self._wake.wait()

    async def _run(self, job: TrainingJob) -> None:
        job = await self._move(job, JobState.RUNNING)
        try:
            state, detail, checkpoint = await self._outcome(job)
        except asyncio.CancelledError:
            detail = f"The training was interrupted because the bot stopped. {STAYS}"
            await self._move(job, JobState.INTERRUPTED, detail)
            raise
        except Exception as e:  # the queue must outlive whatever goes wrong with one job
            log.exception("job %d failed", job.id)
            state, detail, checkpoint = JobState.FAILED, f"{_sentence(e)} {STAYS}", None
        await self._move(job, state, detail, checkpoint)

    async def _outcome(self, job: TrainingJob) -> tuple[JobState, str, str | None]:
        """What became of a job: its final state, the sentence, the checkpoint's name if any."""
        event = await self._train(job)
        if job.id in self._cancelled:
            return JobState.CANCELLED, f"The training was stopped. {STAYS}", None
        match event:
            case Finished():
                folder = await asyncio.to_thread(self._keep, job, Path(event.checkpoint))
                return await self._serve(job, folder, event)
            case Rejected(checkpoint=path, reason=reason):
                folder = await asyncio.to_thread(self._keep, job, Path(path))
                detail = (
                    f"**{folder.name}** did not pass its checks. {reason} {STAYS} "
                    f"`/model use {folder.name}` tries it anyway."
                )
                return JobState.REJECTED, detail, folder.name
            case Failed(reason=reason):
                return JobState.FAILED, f"{reason} {STAYS}", None
            case _:
                raise AssertionError("training ends with a final event or raises")

    async def _serve(
        self, job: TrainingJob, folder: Path, event: Finished
    ) -> tuple[JobState, str, str | None]:
        try:
            await self._promote(job, folder)
        except (ModelError, TrainingError, StoreError) as e:
            detail = f"**{folder.name}** could not be put into service. {e} {STAYS}"
            return JobState.REJECTED, detail, folder.name
        detail = (
            f"**{folder.name}** is trained and answers from now on. The loss went from "
            f"{event.first_loss:.2f} to {event.last_loss:.2f} in {duration(event.seconds)}."
        )
        return JobState.PROMOTED, detail, folder.name

    async def _train(self, job: TrainingJob) -> Event:
        """Run the child; its final event.

        Raises:
            ChildFailed: it ended without one.
        """
        folder = Path(job.directory)
        last: Event | None = None
        with (folder / "log.txt").open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "training.run",
                str(folder),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=errors,
                env={name: value for name, value in os.environ.items() if name != "DISCORD_TOKEN"},
            )
        self._current = (job.id, child)
        try:
            if job.id in self._cancelled:  # while the child was being started
                await _end(child)
            assert child.stdout is not None  # a pipe was asked for
            async for line in child.stdout:
                if event := from_line(line.decode("utf-8", "replace")):
                    last = event
                    await self._tell(JobUpdate(job, event))
            status = await child.wait()
        finally:
            self._current = None
            await _end(child)
        if job.id in self._cancelled:
            return Failed("cancelled")
        if not isinstance(last, Finished | Rejected | Failed):
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise ChildFailed(f"The training process was stopped ({how}) before it had finished.")
        return last

    def _keep(self, job: TrainingJob, made: Path) -> Path:
        """Verify a checkpoint and move it to where the scope's checkpoints live."""
        name = verify(made).name
        folder = self._checkpoints / str(job.scope) / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.replace(folder)
        return folder

    async def _new_name(self, scope: int, base: str) -> str:
        """`<base>-<n>` with an n that the scope never used."""
        used = {job.checkpoint for job in await self._store.checkpoint_jobs(scope)}
        folder = self._checkpoints / str(scope)
        number = 1
        while (name := f"{base}-{number}") in used or (folder / name).exists():
            number += 1
        return name

    # --- telling ---------------------------------------------------------------------------------

    async def _move(
        self,
        job: TrainingJob,
        state: JobState,
        detail: str | None = None,
        checkpoint: str | None = None,
    ) -> TrainingJob:
        moved = await self._store.set_job_state(job.id, state, checkpoint=checkpoint, detail=detail)
        await self._tell(JobUpdate(moved, None))
        async with self._ended:
            self._ended.notify_all()
        return moved

    async def _tell(self, update: JobUpdate) -> None:
        try:
            await self._on_update(update)
        except Exception:  # whoever listens must not stop the job
            log.exception("news of job %d could not be told", update.job.id)


def _prepare(folder: Path, examples: list[Example], config: TrainingConfig) -> None:
    try:
        folder.mkdir(parents=True)
        write_snapshot(examples, folder / "dataset.jsonl")
        config.save(folder / "config.json")
    except OSError as e:
        raise not_written("The training job", e) from e


async def _end(child: Process) -> None:
    """Ask a child to end; insist after a while."""
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(KILL_S):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _sentence(error: Exception) -> str:
    match error:
        case TrainingError() | StoreError():
            return str(error)
        case OSError(errno=number) if number in NO_ROOM:
            return str(DiskFull())
        case _:
            return f"The training failed unexpectedly ({type(error).__name__})."

"""The life of a training job: queued, run in a child process, checked, put into service.

Knows the store and the child's events. Does not know Discord or the worker's client: how a
checkpoint is put into service, and who is told, is handed in. One job runs at a time; the others
wait in order of arrival.

    QUEUED -> RUNNING -> PROMOTED | REJECTED | FAILED | CANCELLED | INTERRUPTED
       ^         |
       +- PAUSED-+   and back to QUEUED when the bot stops, or the child dies, in the middle
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from core.errors import NO_ROOM, DiskFull, StoreError, not_written
from core.logging import LogFormat
from core.records import Example, JobState, TrainingJob
from data.dataset.cleaning import Selection, select
from data.dataset.snapshot import whose, write_snapshot
from data.storage.store import Store
from i18n.phrase import Phrase, phrase, together, words
from model.errors import ModelError
from model.registry import ModelOption
from training.checkpoints import (
    MANIFEST,
    Manifest,
    Report,
    read_manifest,
    read_report,
    remove,
    verify,
    whole_checkpoints,
)
from training.config import TrainingConfig, lower
from training.errors import NOTHING, EmptyDataset, JobRunning, TrainingError
from training.jobs.events import (
    Checking,
    Event,
    Failed,
    Finished,
    Lowered,
    Paused,
    Rejected,
    Saved,
    Started,
    duration,
)
from training.jobs.folder import CHANGES, CHECKPOINT, CONFIG, CONSENT, DATASET, STEPS, saved_step
from training.jobs.preview import Preview, preview
from training.jobs.process import Child

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a run is started that dies without having saved anything new."""
STOP_S = 10.0
"""Seconds that a run gets to save what it has when the bot stops."""
RETRY_S = 30.0
"""Seconds after which the queue looks again at a database that could not be used."""
WAY_S = 20.0
"""Seconds for which a run is held when replies are slow."""
STAYS = phrase("The model that was in service stays.")
OPEN = phrase("A training job is under way in this server already.")


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """News of a job: an event of its run, or (None) a new state."""

    job: TrainingJob
    event: Event | None


Promote = Callable[[TrainingJob, Path], Awaitable[None]]
OnUpdate = Callable[[JobUpdate], Awaitable[None]]
MakeRoom = Callable[[Path], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much training may take. `threads` of computation (None: the library's choice);
    `author_share` of the examples that one member may give; `launcher` starts a run on several
    devices (`accelerate launch` and its options), and its log is written in `log_format`."""

    threads: int | None = None
    author_share: float = 0.5
    launcher: tuple[str, ...] = ()
    log_format: LogFormat = "text"


@dataclass(frozen=True, slots=True)
class End:
    """What became of a job: its state, the sentence, the checkpoint's name if there is one."""

    state: JobState
    detail: str | None
    checkpoint: str | None = None


STOPPED = End(JobState.CANCELLED, together([phrase("The training was stopped."), STAYS]))


class TrainingManager:
    """Runs the jobs of all scopes, one after the other.

    `promote(job, folder)` puts a checkpoint into service or raises; `on_update` is told of
    everything; `make_room(folder)` is called once a checkpoint was kept; `taken` are names that no
    checkpoint may have, as other models have them. An async context manager: the queue is worked
    on inside it. A job that was running when the bot stopped, or was killed, goes on at the next
    start, from the last step that was saved.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        promote: Promote,
        on_update: OnUpdate,
        make_room: MakeRoom | None = None,
        limits: Limits | None = None,
        taken: Collection[str] = (),
    ) -> None:
        self._store = store
        self._jobs = root / "jobs"
        self._checkpoints = root / "checkpoints"
        self._promote = promote
        self._on_update = on_update
        self._make_room = make_room
        self._limits = limits or Limits()
        self._taken = taken
        self._submitting = asyncio.Lock()
        self._wake = asyncio.Event()
        self._ended = asyncio.Condition()
        self._running: int | None = None
        self._pausable = self._stoppable = self._begun = False
        self._child: Child | None = None
        self._cancelled: set[int] = set()
        self._pausing: set[int] = set()
        self._way: asyncio.TimerHandle | None = None
        self._stopping = False
        self._queue: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for job in await self._store.open_jobs():
            if job.state is JobState.RUNNING:
                await self._move(job, End(JobState.QUEUED, None))
        self._queue = asyncio.create_task(self._work(), name="training queue")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._wake.set()
        if self._way is not None:
            self._way.cancel()
        if self._child is not None:
            self._child.tell("pause")
        if self._queue is not None:
            await asyncio.wait({self._queue}, timeout=STOP_S)
            self._queue.cancel()
            await asyncio.gather(self._queue, return_exceptions=True)

    async def preview(self, scope: int, base: ModelOption, config: TrainingConfig) -> Preview:
        """What a job would learn, and what it would take.

        Raises:
            EmptyDataset: nothing was taught.
        """
        selection = await self._selection(scope)
        speed = await asyncio.to_thread(self._speed, scope, base.name, config.method)
        return await asyncio.to_thread(preview, selection, self._within_limits(config), speed)

    async def _selection(self, scope: int) -> Selection:
        examples = await self._store.learnable(scope)
        share = self._limits.author_share
        selection = await asyncio.to_thread(select, examples, author_share=share)
        if not selection.kept:
            raise EmptyDataset(NOTHING)
        return selection

    def _within_limits(self, config: TrainingConfig) -> TrainingConfig:
        most, usual = self._limits.threads, config.threads
        return replace(config, threads=min(most, usual) if most and usual else most or usual)

    def _speed(self, scope: int, base: str, method: str) -> float | None:
        """Tokens a second of the scope's newest run from that base, as far as there was one."""
        speeds = [
            (manifest.created_at, manifest.tokens_per_s)
            for _, manifest in self.checkpoints(scope)
            if manifest.base_name == base
            and manifest.settings.get("method") == method
            and manifest.tokens_per_s > 0
        ]
        return max(speeds)[1] if speeds else None

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
                raise JobRunning(OPEN)
            while (
                job := await self._freeze(scope, requested_by, channel_id, base, config)
            ) is None:
                log.info("a member took back their words meanwhile: the data is frozen anew")
        await self._tell(JobUpdate(job, None))
        self._wake.set()
        return job

    async def _freeze(
        self,
        scope: int,
        requested_by: int,
        channel_id: int,
        base: ModelOption,
        config: TrainingConfig,
    ) -> TrainingJob | None:
        """Write the snapshot and queue its job; None if words in it were taken back meanwhile.

        Who is forgotten later finds the job by its sources, and so its snapshot.
        """
        selection = await self._selection(scope)
        name = await self._new_name(scope, base.name)
        config = replace(self._within_limits(config), name=name)
        before = await self._learned_before(scope, config.serving)
        folder = self._jobs / uuid.uuid4().hex
        sources = whose(selection.kept)
        try:
            await asyncio.to_thread(_prepare, folder, selection.kept, config, before, sources)
            job = await self._store.add_job(
                scope=scope,
                requested_by=requested_by,
                channel_id=channel_id,
                base_model=base.name,
                directory=str(folder),
            )
            await self._store.add_job_sources(job.id, sources)
        except StoreError:
            shutil.rmtree(folder, ignore_errors=True)  # a job without one does not run
            raise
        allowed = {one.id for one in await self._store.learnable(scope)}
        if all(one.id in allowed for one in selection.kept):
            return job
        await self.cancel(job.id)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._store.remove_sources_of(job.id)
        return None

    async def _learned_before(self, scope: int, serving: str | None) -> Path | None:
        """The data set of the model in service, if a job of the scope made it."""
        name = Path(serving).name if serving else None
        jobs = await self._store.checkpoint_jobs(scope)
        return next((Path(one.directory) / DATASET for one in jobs if one.checkpoint == name), None)

    async def cancel(self, job_id: int) -> bool:
        """End a job that is queued, running or paused.

        False if it has ended, or its checkpoint is being put into service.
        """
        if self._running == job_id:
            if not self._stoppable:
                return False
            self._cancelled.add(job_id)
            if self._child is not None:
                await self._child.kill()
            return True
        waiting = (JobState.QUEUED, JobState.PAUSED)
        job = await self._store.move_job(
            job_id, waiting, JobState.CANCELLED, phrase("The training was cancelled.")
        )
        if job is None:
            return False
        await self._told(job)
        await asyncio.to_thread(_forget_all_but_data, job)
        return True

    async def discard(self, job: TrainingJob) -> None:
        """End a job if it has not ended, and remove its data set, log and saved steps.

        What it made stays: that is no longer in its folder.

        Raises:
            StoreError: something of it could not be removed.
        """
        if not job.state.is_final:
            await self.cancel(job.id)
            await self.wait(job.id)
        folder = self._jobs / Path(job.directory).name  # the bot may have been moved since
        try:
            await asyncio.to_thread(_remove_wholly, folder)
        except OSError as e:
            raise StoreError(
                phrase(
                    "The data of training job {job} could not be removed: {error}.",
                    job=job.id,
                    error=e.strerror,
                )
            ) from e

    async def pause(self, job_id: int) -> bool:
        """Save and stop a running job, or keep a queued one from beginning.

        False if it is neither, or has taken its last step.
        """
        if self._running == job_id:
            if self._pausable:
                self._pausing.add(job_id)
                await self._interrupt()
            return self._pausable
        waiting = await self._store.job(job_id)
        if waiting is None:
            return False
        detail = _paused(waiting)
        job = await self._store.move_job(job_id, (JobState.QUEUED,), JobState.PAUSED, detail)
        if job is not None:
            await self._told(job)
        return job is not None

    async def _interrupt(self) -> None:
        """Let the child save after the step under way; before its first it has nothing to save."""
        if self._child is None:
            return
        if self._begun:
            self._child.tell("pause")
        else:
            await self._child.kill()

    async def resume(self, job_id: int) -> bool:
        """Let a paused job go on, or one that was interrupted; False if it is neither.

        Raises:
            JobRunning: it was interrupted, and the scope has another job by now.
        """
        async with self._submitting:
            job = await self._store.job(job_id)
            if job is None or job.state not in (JobState.PAUSED, JobState.INTERRUPTED):
                return False
            if job.state is JobState.INTERRUPTED:
                if await self._store.open_jobs(job.scope):
                    raise JobRunning(OPEN)
                if not (Path(job.directory) / CONFIG).is_file():
                    return False
            await self._store.reset_attempts(job_id)
            moved = await self._store.move_job(job_id, (job.state,), JobState.QUEUED)
        if moved is not None:
            await self._told(moved)
            self._wake.set()
        return moved is not None

    def give_way(self) -> None:
        """Replies are slow: hold the run under way for a while."""
        if self._child is None or self._stopping:
            return
        self._child.tell("hold")
        if self._way is not None:
            self._way.cancel()
        self._way = asyncio.get_running_loop().call_later(WAY_S, self._go_on)

    def _go_on(self) -> None:
        if self._child is not None:
            self._child.tell("go")

    async def wait(self, job_id: int) -> TrainingJob:
        """The job, once it has ended."""
        return await self.wait_until(job_id, lambda job: job.state.is_final)

    async def wait_until(self, job_id: int, true: Callable[[TrainingJob], bool]) -> TrainingJob:
        """The job, once something is true of it."""
        async with self._ended:
            while (job := await self._store.job(job_id)) is None or not true(job):
                await self._ended.wait()
            return job

    def checkpoints(self, scope: int) -> list[tuple[Path, Manifest]]:
        """The scope's checkpoints, whole ones only."""
        return list(whole_checkpoints(self._checkpoints / str(scope)))

    # --- the queue -------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                if job := await self._next():
                    await self._run(job)
                    continue
                await self._wake.wait()
            except StoreError as e:
                log.error("the training queue looks again in %.0f s: %s", RETRY_S, e)
                await asyncio.sleep(RETRY_S)

    async def _next(self) -> TrainingJob | None:
        waiting = await self._store.open_jobs()
        return next((job for job in waiting if job.state is not JobState.PAUSED), None)

    async def _run(self, job: TrainingJob) -> None:
        self._running, self._pausable, self._stoppable = job.id, True, True
        try:
            started = await self._store.start_job(job.id)
            if started is None:
                return  # it was paused or cancelled in this very moment
            await self._told(started)
            end = await self._end(started)
            if job.id in self._cancelled and self._stoppable:
                end = STOPPED
            self._pausable = self._stoppable = False  # it is decided
            await self._move(started, end)
        finally:
            self._running = None
        self._cancelled.discard(job.id)
        self._pausing.discard(job.id)
        if end.state.is_final and end.state is not JobState.INTERRUPTED:
            await asyncio.to_thread(_forget_all_but_data, started)

    async def _end(self, job: TrainingJob) -> End:
        try:
            return await self._outcome(job)
        except asyncio.CancelledError:  # the bot stops
            await self._move(job, End(JobState.QUEUED, None))
            raise
        except StoreError:
            raise
        except Exception as e:  # the queue must outlive whatever goes wrong with one job
            log.exception("job %d failed", job.id)
            return End(JobState.FAILED, together([_sentence(e), STAYS]))

    async def _outcome(self, job: TrainingJob) -> End:
        if (made := await asyncio.to_thread(self._made, job)) is not None:
            self._pausable = False
            return await self._judge(job, made)  # the bot was killed after the run had ended
        if job.id in self._pausing:
            return End(JobState.PAUSED, _paused(job))
        event, status = await self._train(job)
        if job.id in self._cancelled:
            return STOPPED  # whatever it came to
        if isinstance(event, Finished | Rejected):
            made = await asyncio.to_thread(self._keep, job, Path(event.checkpoint))
            return await self._judge(job, made)
        return self._broke_off(job, event, status)

    def _broke_off(self, job: TrainingJob, event: Event | None, status: int) -> End:
        """The run ended without a checkpoint: what to say, and whether it goes on."""
        match event:
            case Failed(reason=reason, resumable=True):
                return End(JobState.INTERRUPTED, together([reason, _kept(job), STAYS]))
            case Failed(reason=reason):
                return End(JobState.FAILED, together([reason, STAYS]))
            case Paused() if job.id not in self._pausing:
                return End(JobState.QUEUED, None)  # the bot stops
            case Paused(step=step):
                return End(JobState.PAUSED, phrase("Paused after step {step}.", step=step))
            case _:
                return self._died(job, status)

    def _died(self, job: TrainingJob, status: int) -> End:
        """The run ended without a word: it begins again where it was saved, some times."""
        killed = status == -signal.SIGKILL if hasattr(signal, "SIGKILL") else False
        how = (
            phrase("signal {number}", number=-status)
            if status < 0
            else phrase("exit status {number}", number=status)
        )
        log.error("the process of job %d ended (%s), attempt %d", job.id, how, job.attempts)
        if job.id in self._pausing:
            return End(JobState.PAUSED, _paused(job))
        if job.attempts >= ATTEMPTS:
            detail = phrase(
                "The training was begun {attempts} times and never got on ({how}; {why}).",
                attempts=ATTEMPTS,
                how=how,
                why=phrase("most often because memory ran out")
                if killed
                else phrase("see its log"),
            )
            return End(JobState.INTERRUPTED, together([detail, _kept(job), STAYS]))
        if killed:
            config = Path(job.directory) / CONFIG
            lower(TrainingConfig.load(config)).save(config)
        return End(JobState.QUEUED, None)

    async def _judge(self, job: TrainingJob, folder: Path) -> End:
        """Put a checkpoint into service if it passed its checks, and say what came of it."""
        report = await asyncio.to_thread(read_report, folder)
        if job.id in self._cancelled:
            await asyncio.to_thread(remove, folder)
            return STOPPED
        self._stoppable = False
        if report is not None and report.refusal:
            detail = phrase(
                "**{name}** did not pass its checks. {refusal} {stays} `/model use {name}` tries "
                "it anyway.",
                name=folder.name,
                refusal=report.refusal,
                stays=STAYS,
            )
            end = End(JobState.REJECTED, detail, folder.name)
        else:
            end = await self._serve(job, folder, report)
        await self._room_for(folder)
        return end

    async def _serve(self, job: TrainingJob, folder: Path, report: Report | None) -> End:
        try:
            await self._promote(job, folder)
        except (ModelError, TrainingError, StoreError) as e:
            detail = phrase(
                "**{name}** could not be put into service. {reason} {stays}",
                name=folder.name,
                reason=words(e),
                stays=STAYS,
            )
            return End(JobState.REJECTED, detail, folder.name)
        manifest = await asyncio.to_thread(read_manifest, folder)
        detail = phrase(
            "**{name}** is trained and answers from now on. {losses} Its training took {time}.",
            name=folder.name,
            losses=_losses(manifest, report),
            time=duration(manifest.seconds),
        )
        return End(JobState.PROMOTED, detail, folder.name)

    async def _room_for(self, folder: Path) -> None:
        if self._make_room is None:
            return
        try:
            await self._make_room(folder)
        except (OSError, StoreError) as e:  # the job itself went well
            log.warning("old checkpoints could not be removed: %s", e)

    async def _train(self, job: TrainingJob) -> tuple[Event | None, int]:
        """Run the child; its last event and its exit status."""
        last: Event | None = None
        limits, folder = self._limits, Path(job.directory)
        async with Child.started(folder, limits.launcher, limits.log_format) as child:
            self._child, self._begun = child, False
            try:
                if job.id in self._cancelled | self._pausing:  # while the child was being started
                    await child.kill()
                if self._stopping:
                    child.tell("pause")
                async for event in child.events():
                    last = event
                    await self._note(job, event)
                    await self._tell(JobUpdate(job, event))
            finally:
                self._child, self._pausable = None, False
        assert child.status is not None  # it is over
        return last, child.status

    async def _note(self, job: TrainingJob, event: Event) -> None:
        match event:
            case Started():
                self._begun = True
            case Lowered():
                self._begun = False  # once more from the start
            case Checking():
                self._pausable = False
            case Saved():
                await self._store.reset_attempts(job.id)

    def _keep(self, job: TrainingJob, made: Path) -> Path:
        """Verify a checkpoint and move it to where the scope's checkpoints live."""
        name = verify(made).name
        folder = self._checkpoints / str(job.scope) / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.replace(folder)
        return folder

    def _made(self, job: TrainingJob) -> Path | None:
        """The job's checkpoint, if an earlier start of it had come that far."""
        config, made = Path(job.directory) / CONFIG, Path(job.directory) / CHECKPOINT
        if not config.is_file():
            return None
        folder = self._checkpoints / str(job.scope) / TrainingConfig.load(config).name
        if (folder / MANIFEST).is_file():
            return folder
        return self._keep(job, made) if (made / MANIFEST).is_file() else None

    async def _new_name(self, scope: int, base: str) -> str:
        """`<base>-<n>` with an n that the scope never used, nor wants for a job to come."""
        jobs = await self._store.jobs(scope)
        used = {*self._taken, *(job.checkpoint for job in jobs)}
        used |= await asyncio.to_thread(_wished_names, jobs)
        folder = self._checkpoints / str(scope)
        number = 1
        while (name := f"{base}-{number}") in used or (folder / name).exists():
            number += 1
        return name

    # --- telling ---------------------------------------------------------------------------------

    async def _move(self, job: TrainingJob, end: End) -> TrainingJob:
        moved = await self._store.set_job_state(
            job.id, end.state, checkpoint=end.checkpoint, detail=end.detail
        )
        await self._told(moved)
        return moved

    async def _told(self, job: TrainingJob) -> None:
        await self._tell(JobUpdate(job, None))
        async with self._ended:
            self._ended.notify_all()

    async def _tell(self, update: JobUpdate) -> None:
        try:
            await self._on_update(update)
        except Exception:  # whoever listens must not stop the job
            log.exception("news of job %d could not be told", update.job.id)


def _prepare(
    folder: Path,
    examples: Sequence[Example],
    config: TrainingConfig,
    before: Path | None,
    sources: Mapping[int, int | None],
) -> None:
    try:
        folder.mkdir(parents=True)
        write_snapshot(examples, folder / DATASET)
        changes = _changes(folder / DATASET, before)
        (folder / CHANGES).write_text(json.dumps(changes) + "\n", encoding="utf-8")
        (folder / CONSENT).write_text(json.dumps(sources) + "\n", encoding="utf-8")
        config.save(folder / CONFIG)
    except OSError as e:
        raise not_written(phrase("The training job"), e) from e


def _changes(now: Path, before: Path | None) -> dict[str, int] | None:
    """How many examples are new, gone and the same since that data set; None without one."""
    if before is None or not before.is_file():
        return None
    new, old = (set(one.read_text(encoding="utf-8").splitlines()) for one in (now, before))
    return {"added": len(new - old), "removed": len(old - new), "same": len(new & old)}


def _wished_names(jobs: Sequence[TrainingJob]) -> set[str]:
    """The names of the checkpoints that these jobs are to make, as far as that is known."""
    names = set()
    for job in jobs:
        with suppress(OSError, ValueError):
            names.add(TrainingConfig.load(Path(job.directory) / CONFIG).name)
    return names


def _forget_all_but_data(job: TrainingJob) -> None:
    """Remove what an ended job needs no more; a checkpoint that counts was moved away from here."""
    for name in (STEPS, CHECKPOINT, f"{CHECKPOINT}.partial"):
        shutil.rmtree(Path(job.directory) / name, ignore_errors=True)


def _remove_wholly(folder: Path) -> None:
    while folder.exists():
        with suppress(FileNotFoundError):  # the end of the job removes some of it, too
            shutil.rmtree(folder)


def _losses(manifest: Manifest, report: Report | None) -> Phrase:
    """What was learned, by the model in service; where it was not measured, by the training."""
    taught = report.losses.get("own", {}) if report else {}
    base, new = taught.get("base"), taught.get("new")
    if base is not None and new is not None:
        return phrase(
            "The loss on what was taught went from {base:.2f} to {new:.2f}.", base=base, new=new
        )
    first, last = (manifest.scores[key] for key in ("first_loss", "last_loss"))
    return phrase("The training loss went from {first:.2f} to {last:.2f}.", first=first, last=last)


def _paused(job: TrainingJob) -> Phrase:
    saved = saved_step(Path(job.directory))
    if saved is None:
        return phrase("Paused before it began.")
    return together([phrase("Paused."), _kept(job)])


def _kept(job: TrainingJob) -> Phrase:
    saved = saved_step(Path(job.directory))
    if saved is None:
        return phrase("Nothing of it was saved; Resume begins it again.")
    return phrase(
        "What was learned up to step {step} is kept: Resume goes on from there.", step=saved.step
    )


def _sentence(error: Exception) -> str:
    match error:
        case TrainingError() | StoreError():
            return words(error)
        case OSError(errno=number) if number in NO_ROOM:
            return words(DiskFull())
        case _:
            return phrase("The training failed unexpectedly ({kind}).", kind=type(error).__name__)

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

from core.errors import DISK_FULL_ERRNOS, DiskFull, StoreError, write_error
from core.logging import LogFormat
from core.records import Example, JobState, TrainingJob
from data.dataset.cleaning import Selection, select_examples
from data.dataset.snapshot import contributor_consents, write_snapshot
from data.storage.storage import Storage
from i18n.phrase import Phrase, join_phrases, message_of, phrase
from model.errors import ModelError
from model.registry import ModelOption
from training.checkpoints import (
    MANIFEST_FILE,
    Manifest,
    StoredReport,
    iter_checkpoints,
    read_manifest,
    read_report,
    remove_checkpoint,
    verify,
)
from training.config import TrainingConfig, halve_batch_size
from training.errors import NOTHING_TAUGHT, EmptyDataset, JobAlreadyOpen, TrainingError
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
    format_duration,
)
from training.jobs.folder import (
    CHANGES_FILE,
    CHECKPOINT_DIR,
    CONFIG_FILE,
    CONSENT_FILE,
    DATASET_FILE,
    STEPS_DIR,
    latest_saved_step,
)
from training.jobs.preview import Preview, preview
from training.jobs.process import TrainingProcess

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""How often a run is started that dies without having saved anything new."""
STOP_TIMEOUT_S = 10.0
"""Seconds that a run gets to save what it has when the bot stops."""
STORE_RETRY_S = 30.0
"""Seconds after which the queue looks again at a database that could not be used."""
HOLD_S = 20.0
"""Seconds for which a run is held when replies are slow."""
SERVING_UNCHANGED = phrase("The model that was in service stays.")
JOB_ALREADY_OPEN = phrase("A training job is under way in this server already.")


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """News of a job: an event of its run, or (None) a new state."""

    job: TrainingJob
    event: Event | None


Promote = Callable[[TrainingJob, Path], Awaitable[None]]
OnUpdate = Callable[[JobUpdate], Awaitable[None]]
ApplyRetention = Callable[[Path], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLimits:
    """How much training may take. `threads` of computation (None: the library's choice);
    `author_share` of the examples that one member may give; `launcher` starts a run on several
    devices (`accelerate launch` and its options), and its log is written in `log_format`."""

    threads: int | None = None
    author_share: float = 0.5
    launcher: tuple[str, ...] = ()
    log_format: LogFormat = "text"


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What became of a job: its state, the sentence, the checkpoint's name if there is one."""

    state: JobState
    detail: str | None
    checkpoint: str | None = None


CANCELLED_OUTCOME = JobOutcome(
    JobState.CANCELLED, join_phrases([phrase("The training was stopped."), SERVING_UNCHANGED])
)


class TrainingManager:
    """Runs the jobs of all scopes, one after the other.

    `promote(job, folder)` puts a checkpoint into service or raises; `on_update` is told of
    everything; `make_room(folder)` is called once a checkpoint was kept; `reserved_names` are names
    that no checkpoint may have, as other models have them. An async context manager: the queue is
    worked on inside it. A job that was running when the bot stopped, or was killed, goes on at the
    next start, from the last step that was saved.
    """

    def __init__(
        self,
        storage: Storage,
        root: Path,
        *,
        promote: Promote,
        on_update: OnUpdate,
        apply_retention: ApplyRetention | None = None,
        limits: TrainingLimits | None = None,
        reserved_names: Collection[str] = (),
    ) -> None:
        self._storage = storage
        self._jobs = root / "jobs"
        self._checkpoints = root / "checkpoints"
        self._promote = promote
        self._on_update = on_update
        self._apply_retention = apply_retention
        self._limits = limits or TrainingLimits()
        self._reserved_names = reserved_names
        self._submitting = asyncio.Lock()
        self._wake = asyncio.Event()
        self._job_changed = asyncio.Condition()
        self._running_id: int | None = None
        self._pausable = self._stoppable = self._run_started = False
        self._child: TrainingProcess | None = None
        self._cancelled: set[int] = set()
        self._pause_requested: set[int] = set()
        self._hold_timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._queue_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for job in await self._storage.jobs.unfinished():
            if job.state is JobState.RUNNING:
                await self._set_outcome(job, JobOutcome(JobState.QUEUED, None))
        self._queue_task = asyncio.create_task(self._process_queue(), name="training queue")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._wake.set()
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        if self._child is not None:
            self._child.send("pause")
        if self._queue_task is not None:
            await asyncio.wait({self._queue_task}, timeout=STOP_TIMEOUT_S)
            self._queue_task.cancel()
            await asyncio.gather(self._queue_task, return_exceptions=True)

    async def preview(self, scope: int, base: ModelOption, config: TrainingConfig) -> Preview:
        """What a job would learn, and what it would take.

        Raises:
            EmptyDataset: nothing was taught.
        """
        selection = await self._selection(scope)
        speed = await asyncio.to_thread(self._speed, scope, base.name, config.method)
        return await asyncio.to_thread(preview, selection, self._apply_limits(config), speed)

    async def _selection(self, scope: int) -> Selection:
        examples = await self._storage.examples.trainable(scope)
        share = self._limits.author_share
        selection = await asyncio.to_thread(select_examples, examples, author_share=share)
        if not selection.kept:
            raise EmptyDataset(NOTHING_TAUGHT)
        return selection

    def _apply_limits(self, config: TrainingConfig) -> TrainingConfig:
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
            JobAlreadyOpen: the scope has a job that has not ended.
            EmptyDataset: nothing was taught.
            DiskFull, StoreError: the snapshot could not be written; nothing is left behind.
        """
        async with self._submitting:
            if await self._storage.jobs.unfinished(scope):
                raise JobAlreadyOpen(JOB_ALREADY_OPEN)
            while (
                job := await self._snapshot_and_queue(scope, requested_by, channel_id, base, config)
            ) is None:
                log.info("a member took back their words meanwhile: the data is frozen anew")
        await self._notify(JobUpdate(job, None))
        self._wake.set()
        return job

    async def _snapshot_and_queue(
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
        name = await self._new_checkpoint_name(scope, base.name)
        config = replace(self._apply_limits(config), name=name)
        before = await self._serving_dataset(scope, config.serving)
        folder = self._jobs / uuid.uuid4().hex
        sources = contributor_consents(selection.kept)
        try:
            await asyncio.to_thread(
                _write_job_folder, folder, selection.kept, config, before, sources
            )
            job = await self._storage.jobs.add(
                scope=scope,
                requested_by=requested_by,
                channel_id=channel_id,
                base_model=base.name,
                directory=str(folder),
            )
            await self._storage.jobs.add_sources(job.id, sources)
        except StoreError:
            shutil.rmtree(folder, ignore_errors=True)  # a job without one does not run
            raise
        allowed = {one.id for one in await self._storage.examples.trainable(scope)}
        if all(one.id in allowed for one in selection.kept):
            return job
        await self.cancel(job.id)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._storage.jobs.remove_sources_of_job(job.id)
        return None

    async def _serving_dataset(self, scope: int, serving: str | None) -> Path | None:
        """The data set of the model in service, if a job of the scope made it."""
        name = Path(serving).name if serving else None
        jobs = await self._storage.jobs.with_checkpoint(scope)
        return next(
            (Path(one.directory) / DATASET_FILE for one in jobs if one.checkpoint == name), None
        )

    async def cancel(self, job_id: int) -> bool:
        """End a job that is queued, running or paused.

        False if it has ended, or its checkpoint is being put into service.
        """
        if self._running_id == job_id:
            if not self._stoppable:
                return False
            self._cancelled.add(job_id)
            if self._child is not None:
                await self._child.kill()
            return True
        waiting = (JobState.QUEUED, JobState.PAUSED)
        job = await self._storage.jobs.transition(
            job_id, waiting, JobState.CANCELLED, phrase("The training was cancelled.")
        )
        if job is None:
            return False
        await self._notify_state(job)
        await asyncio.to_thread(_remove_work_files, job)
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
            await asyncio.to_thread(_remove_folder, folder)
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
        if self._running_id == job_id:
            if self._pausable:
                self._pause_requested.add(job_id)
                await self._interrupt()
            return self._pausable
        waiting = await self._storage.jobs.get(job_id)
        if waiting is None:
            return False
        detail = _paused_message(waiting)
        job = await self._storage.jobs.transition(
            job_id, (JobState.QUEUED,), JobState.PAUSED, detail
        )
        if job is not None:
            await self._notify_state(job)
        return job is not None

    async def _interrupt(self) -> None:
        """Let the child save after the step under way; before its first it has nothing to save."""
        if self._child is None:
            return
        if self._run_started:
            self._child.send("pause")
        else:
            await self._child.kill()

    async def resume(self, job_id: int) -> bool:
        """Let a paused job go on, or one that was interrupted; False if it is neither.

        Raises:
            JobAlreadyOpen: it was interrupted, and the scope has another job by now.
        """
        async with self._submitting:
            job = await self._storage.jobs.get(job_id)
            if job is None or job.state not in (JobState.PAUSED, JobState.INTERRUPTED):
                return False
            if job.state is JobState.INTERRUPTED:
                if await self._storage.jobs.unfinished(job.scope):
                    raise JobAlreadyOpen(JOB_ALREADY_OPEN)
                if not (Path(job.directory) / CONFIG_FILE).is_file():
                    return False
            await self._storage.jobs.reset_attempts(job_id)
            moved = await self._storage.jobs.transition(job_id, (job.state,), JobState.QUEUED)
        if moved is not None:
            await self._notify_state(moved)
            self._wake.set()
        return moved is not None

    def hold(self) -> None:
        """Replies are slow: hold the run under way for a while."""
        if self._child is None or self._stopping:
            return
        self._child.send("hold")
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = asyncio.get_running_loop().call_later(HOLD_S, self._end_hold)

    def _end_hold(self) -> None:
        if self._child is not None:
            self._child.send("go")

    async def wait(self, job_id: int) -> TrainingJob:
        """The job, once it has ended."""
        return await self.wait_until(job_id, lambda job: job.state.is_final)

    async def wait_until(self, job_id: int, true: Callable[[TrainingJob], bool]) -> TrainingJob:
        """The job, once something is true of it."""
        async with self._job_changed:
            while (job := await self._storage.jobs.get(job_id)) is None or not true(job):
                await self._job_changed.wait()
            return job

    def checkpoints(self, scope: int) -> list[tuple[Path, Manifest]]:
        """The scope's checkpoints, whole ones only."""
        return list(iter_checkpoints(self._checkpoints / str(scope)))

    # --- the queue -------------------------------------------------------------------------------

    async def _process_queue(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                if job := await self._next_job():
                    await self._run_job(job)
                    continue
                await self._wake.wait()
            except StoreError as e:
                log.error("the training queue looks again in %.0f s: %s", STORE_RETRY_S, e)
                await asyncio.sleep(STORE_RETRY_S)

    async def _next_job(self) -> TrainingJob | None:
        waiting = await self._storage.jobs.unfinished()
        return next((job for job in waiting if job.state is not JobState.PAUSED), None)

    async def _run_job(self, job: TrainingJob) -> None:
        self._running_id, self._pausable, self._stoppable = job.id, True, True
        try:
            started = await self._storage.jobs.start(job.id)
            if started is None:
                return  # it was paused or cancelled in this very moment
            await self._notify_state(started)
            end = await self._safe_outcome(started)
            if job.id in self._cancelled and self._stoppable:
                end = CANCELLED_OUTCOME
            self._pausable = self._stoppable = False  # it is decided
            await self._set_outcome(started, end)
        finally:
            self._running_id = None
        self._cancelled.discard(job.id)
        self._pause_requested.discard(job.id)
        if end.state.is_final and end.state is not JobState.INTERRUPTED:
            await asyncio.to_thread(_remove_work_files, started)

    async def _safe_outcome(self, job: TrainingJob) -> JobOutcome:
        try:
            return await self._outcome(job)
        except asyncio.CancelledError:  # the bot stops
            await self._set_outcome(job, JobOutcome(JobState.QUEUED, None))
            raise
        except StoreError:
            raise
        except Exception as e:  # the queue must outlive whatever goes wrong with one job
            log.exception("job %d failed", job.id)
            return JobOutcome(JobState.FAILED, join_phrases([_error_message(e), SERVING_UNCHANGED]))

    async def _outcome(self, job: TrainingJob) -> JobOutcome:
        if (made := await asyncio.to_thread(self._find_checkpoint, job)) is not None:
            self._pausable = False
            return await self._promote_or_reject(
                job, made
            )  # the bot was killed after the run had ended
        if job.id in self._pause_requested:
            return JobOutcome(JobState.PAUSED, _paused_message(job))
        event, status = await self._run_process(job)
        if job.id in self._cancelled:
            return CANCELLED_OUTCOME  # whatever it came to
        if isinstance(event, Finished | Rejected):
            made = await asyncio.to_thread(self._store_checkpoint, job, Path(event.checkpoint))
            return await self._promote_or_reject(job, made)
        return self._outcome_without_checkpoint(job, event, status)

    def _outcome_without_checkpoint(
        self, job: TrainingJob, event: Event | None, status: int
    ) -> JobOutcome:
        """The run ended without a checkpoint: what to say, and whether it goes on."""
        match event:
            case Failed(reason=reason, resumable=True):
                return JobOutcome(
                    JobState.INTERRUPTED,
                    join_phrases([reason, _resume_message(job), SERVING_UNCHANGED]),
                )
            case Failed(reason=reason):
                return JobOutcome(JobState.FAILED, join_phrases([reason, SERVING_UNCHANGED]))
            case Paused() if job.id not in self._pause_requested:
                return JobOutcome(JobState.QUEUED, None)  # the bot stops
            case Paused(step=step):
                return JobOutcome(JobState.PAUSED, phrase("Paused after step {step}.", step=step))
            case _:
                return self._outcome_of_crash(job, status)

    def _outcome_of_crash(self, job: TrainingJob, status: int) -> JobOutcome:
        """The run ended without a word: it begins again where it was saved, some times."""
        killed = status == -signal.SIGKILL if hasattr(signal, "SIGKILL") else False
        how = (
            phrase("signal {number}", number=-status)
            if status < 0
            else phrase("exit status {number}", number=status)
        )
        log.error("the process of job %d ended (%s), attempt %d", job.id, how, job.attempts)
        if job.id in self._pause_requested:
            return JobOutcome(JobState.PAUSED, _paused_message(job))
        if job.attempts >= MAX_ATTEMPTS:
            detail = phrase(
                "The training was begun {attempts} times and never got on ({how}; {why}).",
                attempts=MAX_ATTEMPTS,
                how=how,
                why=phrase("most often because memory ran out")
                if killed
                else phrase("see its log"),
            )
            return JobOutcome(
                JobState.INTERRUPTED,
                join_phrases([detail, _resume_message(job), SERVING_UNCHANGED]),
            )
        if killed:
            config = Path(job.directory) / CONFIG_FILE
            halve_batch_size(TrainingConfig.load(config)).save(config)
        return JobOutcome(JobState.QUEUED, None)

    async def _promote_or_reject(self, job: TrainingJob, folder: Path) -> JobOutcome:
        """Put a checkpoint into service if it passed its checks, and say what came of it."""
        report = await asyncio.to_thread(read_report, folder)
        if job.id in self._cancelled:
            await asyncio.to_thread(remove_checkpoint, folder)
            return CANCELLED_OUTCOME
        self._stoppable = False
        if report is not None and report.refusal:
            detail = phrase(
                "**{name}** did not pass its checks. {refusal} {stays} `/model use {name}` tries "
                "it anyway.",
                name=folder.name,
                refusal=report.refusal,
                stays=SERVING_UNCHANGED,
            )
            end = JobOutcome(JobState.REJECTED, detail, folder.name)
        else:
            end = await self._try_promote(job, folder, report)
        await self._retain_with(folder)
        return end

    async def _try_promote(
        self, job: TrainingJob, folder: Path, report: StoredReport | None
    ) -> JobOutcome:
        try:
            await self._promote(job, folder)
        except (ModelError, TrainingError, StoreError) as e:
            detail = phrase(
                "**{name}** could not be put into service. {reason} {stays}",
                name=folder.name,
                reason=message_of(e),
                stays=SERVING_UNCHANGED,
            )
            return JobOutcome(JobState.REJECTED, detail, folder.name)
        manifest = await asyncio.to_thread(read_manifest, folder)
        detail = phrase(
            "**{name}** is trained and answers from now on. {losses} Its training took {time}.",
            name=folder.name,
            losses=_loss_message(manifest, report),
            time=format_duration(manifest.seconds),
        )
        return JobOutcome(JobState.PROMOTED, detail, folder.name)

    async def _retain_with(self, folder: Path) -> None:
        if self._apply_retention is None:
            return
        try:
            await self._apply_retention(folder)
        except (OSError, StoreError) as e:  # the job itself went well
            log.warning("old checkpoints could not be removed: %s", e)

    async def _run_process(self, job: TrainingJob) -> tuple[Event | None, int]:
        """Run the child; its last event and its exit status."""
        last: Event | None = None
        limits, folder = self._limits, Path(job.directory)
        async with TrainingProcess.launch(folder, limits.launcher, limits.log_format) as child:
            self._child, self._run_started = child, False
            try:
                if (
                    job.id in self._cancelled | self._pause_requested
                ):  # while the child was being started
                    await child.kill()
                if self._stopping:
                    child.send("pause")
                async for event in child.events():
                    last = event
                    await self._on_event(job, event)
                    await self._notify(JobUpdate(job, event))
            finally:
                self._child, self._pausable = None, False
        assert child.exit_status is not None  # it is over
        return last, child.exit_status

    async def _on_event(self, job: TrainingJob, event: Event) -> None:
        match event:
            case Started():
                self._run_started = True
            case Lowered():
                self._run_started = False  # once more from the start
            case Checking():
                self._pausable = False
            case Saved():
                await self._storage.jobs.reset_attempts(job.id)

    def _store_checkpoint(self, job: TrainingJob, made: Path) -> Path:
        """Verify a checkpoint and move it to where the scope's checkpoints live."""
        name = verify(made).name
        folder = self._checkpoints / str(job.scope) / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.replace(folder)
        return folder

    def _find_checkpoint(self, job: TrainingJob) -> Path | None:
        """The job's checkpoint, if an earlier start of it had come that far."""
        config, made = Path(job.directory) / CONFIG_FILE, Path(job.directory) / CHECKPOINT_DIR
        if not config.is_file():
            return None
        folder = self._checkpoints / str(job.scope) / TrainingConfig.load(config).name
        if (folder / MANIFEST_FILE).is_file():
            return folder
        return self._store_checkpoint(job, made) if (made / MANIFEST_FILE).is_file() else None

    async def _new_checkpoint_name(self, scope: int, base: str) -> str:
        """`<base>-<n>` with an n that the scope never used, nor wants for a job to come."""
        jobs = await self._storage.jobs.all(scope)
        used = {*self._reserved_names, *(job.checkpoint for job in jobs)}
        used |= await asyncio.to_thread(_planned_names, jobs)
        folder = self._checkpoints / str(scope)
        number = 1
        while (name := f"{base}-{number}") in used or (folder / name).exists():
            number += 1
        return name

    # --- telling ---------------------------------------------------------------------------------

    async def _set_outcome(self, job: TrainingJob, end: JobOutcome) -> TrainingJob:
        moved = await self._storage.jobs.set_state(
            job.id, end.state, checkpoint=end.checkpoint, detail=end.detail
        )
        await self._notify_state(moved)
        return moved

    async def _notify_state(self, job: TrainingJob) -> None:
        await self._notify(JobUpdate(job, None))
        async with self._job_changed:
            self._job_changed.notify_all()

    async def _notify(self, update: JobUpdate) -> None:
        try:
            await self._on_update(update)
        except Exception:  # whoever listens must not stop the job
            log.exception("news of job %d could not be told", update.job.id)


def _write_job_folder(
    folder: Path,
    examples: Sequence[Example],
    config: TrainingConfig,
    before: Path | None,
    sources: Mapping[int, int | None],
) -> None:
    try:
        folder.mkdir(parents=True)
        write_snapshot(examples, folder / DATASET_FILE)
        changes = _dataset_changes(folder / DATASET_FILE, before)
        (folder / CHANGES_FILE).write_text(json.dumps(changes) + "\n", encoding="utf-8")
        (folder / CONSENT_FILE).write_text(json.dumps(sources) + "\n", encoding="utf-8")
        config.save(folder / CONFIG_FILE)
    except OSError as e:
        raise write_error(phrase("The training job"), e) from e


def _dataset_changes(now: Path, before: Path | None) -> dict[str, int] | None:
    """How many examples are new, gone and the same since that data set; None without one."""
    if before is None or not before.is_file():
        return None
    new, old = (set(one.read_text(encoding="utf-8").splitlines()) for one in (now, before))
    return {"added": len(new - old), "removed": len(old - new), "same": len(new & old)}


def _planned_names(jobs: Sequence[TrainingJob]) -> set[str]:
    """The names of the checkpoints that these jobs are to make, as far as that is known."""
    names = set()
    for job in jobs:
        with suppress(OSError, ValueError):
            names.add(TrainingConfig.load(Path(job.directory) / CONFIG_FILE).name)
    return names


def _remove_work_files(job: TrainingJob) -> None:
    """Remove what an ended job needs no more; a checkpoint that counts was moved away from here."""
    for name in (STEPS_DIR, CHECKPOINT_DIR, f"{CHECKPOINT_DIR}.partial"):
        shutil.rmtree(Path(job.directory) / name, ignore_errors=True)


def _remove_folder(folder: Path) -> None:
    while folder.exists():
        with suppress(FileNotFoundError):  # the end of the job removes some of it, too
            shutil.rmtree(folder)


def _loss_message(manifest: Manifest, report: StoredReport | None) -> Phrase:
    """What was learned, by the model in service; where it was not measured, by the training."""
    taught = report.losses.get("own", {}) if report else {}
    base, new = taught.get("base"), taught.get("new")
    if base is not None and new is not None:
        return phrase(
            "The loss on what was taught went from {base:.2f} to {new:.2f}.", base=base, new=new
        )
    first, last = (manifest.scores[key] for key in ("first_loss", "last_loss"))
    return phrase("The training loss went from {first:.2f} to {last:.2f}.", first=first, last=last)


def _paused_message(job: TrainingJob) -> Phrase:
    saved = latest_saved_step(Path(job.directory))
    if saved is None:
        return phrase("Paused before it began.")
    return join_phrases([phrase("Paused."), _resume_message(job)])


def _resume_message(job: TrainingJob) -> Phrase:
    saved = latest_saved_step(Path(job.directory))
    if saved is None:
        return phrase("Nothing of it was saved; Resume begins it again.")
    return phrase(
        "What was learned up to step {step} is kept: Resume goes on from there.", step=saved.step
    )


def _error_message(error: Exception) -> str:
    match error:
        case TrainingError() | StoreError():
            return message_of(error)
        case OSError(errno=number) if number in DISK_FULL_ERRNOS:
            return message_of(DiskFull())
        case _:
            return phrase("The training failed unexpectedly ({kind}).", kind=type(error).__name__)

"""What became of an attempt at a job: its next state, and the sentence for the admin.

Knows the last event and the exit status of a run, and what its folder holds. Does not know the
database, nor whether a checkpoint serves: `training.jobs.promotion` decides that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from core.errors import DISK_FULL_ERRNOS, DiskFull
from core.records import JobState, TrainingJob
from i18n.phrase import Phrase, join_phrases, message_of, phrase
from training.config import TrainingConfig, halve_batch_size
from training.errors import TrainingError
from training.jobs.events import Event, Failed, Paused
from training.jobs.folder import CONFIG_FILE, latest_saved_step

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""How often a run is started that dies without having saved anything new."""
SIGKILL_STATUS = -9
"""The exit status of a killed child: mostly by the system, which had no memory left."""
SERVING_UNCHANGED = phrase("The model that was in service stays.")


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """A job's next state, the sentence about it, and the name of the checkpoint, if any."""

    state: JobState
    detail: str | None
    checkpoint: str | None = None


REQUEUED = JobOutcome(JobState.QUEUED, None)
CANCELLED = JobOutcome(
    JobState.CANCELLED, join_phrases([phrase("The training was stopped."), SERVING_UNCHANGED])
)


def paused(job: TrainingJob) -> JobOutcome:
    """The job is paused where it was saved last."""
    return JobOutcome(JobState.PAUSED, paused_message(job))


def failed(error: Exception) -> JobOutcome:
    """The job failed with an error on this side, not in its process."""
    match error:
        case TrainingError():
            reason = message_of(error)
        case OSError(errno=number) if number in DISK_FULL_ERRNOS:
            reason = message_of(DiskFull())
        case _:
            kind = type(error).__name__
            reason = phrase("The training failed unexpectedly ({kind}).", kind=kind)
    return JobOutcome(JobState.FAILED, join_phrases([reason, SERVING_UNCHANGED]))


def without_checkpoint(
    job: TrainingJob, last: Event | None, exit_status: int, *, pausing: bool
) -> JobOutcome:
    """A run ended without a checkpoint. `pausing`: an admin had asked for a pause."""
    match last:
        case Failed(reason=reason, resumable=True):
            return _interrupted(job, reason)
        case Failed(reason=reason):
            return JobOutcome(JobState.FAILED, join_phrases([reason, SERVING_UNCHANGED]))
        case Paused(step=step) if pausing:
            return JobOutcome(JobState.PAUSED, phrase("Paused after step {step}.", step=step))
        case Paused():
            return REQUEUED  # the bot stops: the run goes on at the next start
        case _:
            return _crashed(job, exit_status, pausing=pausing)


def _crashed(job: TrainingJob, exit_status: int, *, pausing: bool) -> JobOutcome:
    """The process died without a word: it is started again from its last saved step, up to
    MAX_ATTEMPTS times, with smaller batches if it was killed for its memory."""
    how = (
        phrase("signal {number}", number=-exit_status)
        if exit_status < 0
        else phrase("exit status {number}", number=exit_status)
    )
    log.error("the process of job %d ended (%s), attempt %d", job.id, how, job.attempts)
    if pausing:
        return paused(job)
    killed = exit_status == SIGKILL_STATUS
    if job.attempts >= MAX_ATTEMPTS:
        why = phrase("most often because memory ran out") if killed else phrase("see its log")
        reason = phrase(
            "The training was begun {attempts} times and never got on ({how}; {why}).",
            attempts=MAX_ATTEMPTS,
            how=how,
            why=why,
        )
        return _interrupted(job, reason)
    if killed:
        config = Path(job.directory) / CONFIG_FILE
        halve_batch_size(TrainingConfig.load(config)).save(config)
    return REQUEUED


def _interrupted(job: TrainingJob, reason: str) -> JobOutcome:
    detail = join_phrases([reason, _resume_message(job), SERVING_UNCHANGED])
    return JobOutcome(JobState.INTERRUPTED, detail)


def paused_message(job: TrainingJob) -> Phrase:
    """What a pause keeps of the job."""
    if latest_saved_step(Path(job.directory)) is None:
        return phrase("Paused before it began.")
    return join_phrases([phrase("Paused."), _resume_message(job)])


def _resume_message(job: TrainingJob) -> Phrase:
    saved = latest_saved_step(Path(job.directory))
    if saved is None:
        return phrase("Nothing of it was saved; Resume begins it again.")
    return phrase(
        "What was learned up to step {step} is kept: Resume goes on from there.", step=saved.step
    )

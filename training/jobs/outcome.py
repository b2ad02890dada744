"""The outcome of an attempt at a job: its next state, and the sentence for the admin.

Judges runs without a checkpoint, by their last event and exit status; `training.jobs.promotion`
judges the others.
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
from training.jobs.events import Checking, Event, Failed, Lost, Paused, Preferring
from training.jobs.folder import CONFIG_FILE, NO_VOTES_FILE, PREFERENCES_FILE, latest_saved_step

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Starts of a run that crashes each time before it saves a new step."""
SIGKILL_STATUS = -9
"""The exit status of a killed child, most often by the out-of-memory killer."""
SERVING_UNCHANGED = phrase("The model in service stays the same.")


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """A job's next state, the sentence about it, and the checkpoint's name, if any."""

    state: JobState
    detail: str | None
    checkpoint: str | None = None


REQUEUED = JobOutcome(JobState.QUEUED, None)
CANCELLED = JobOutcome(
    JobState.CANCELLED, join_phrases([phrase("The training was stopped."), SERVING_UNCHANGED])
)


def paused(job: TrainingJob) -> JobOutcome:
    """Paused at the last saved step."""
    return JobOutcome(JobState.PAUSED, paused_message(job))


def failed(error: Exception) -> JobOutcome:
    """The job failed with an error in the bot, not in the training process."""
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
    """The outcome of a run without a checkpoint; `pausing`: an admin had requested a pause."""
    match last:
        case Failed(reason=reason, resumable=True):
            return _interrupted(job, reason)
        case Failed(reason=reason):
            return JobOutcome(JobState.FAILED, join_phrases([reason, SERVING_UNCHANGED]))
        case Paused(step=step) if pausing:
            return JobOutcome(JobState.PAUSED, phrase("Paused after step {step}.", step=step))
        case Paused():
            return REQUEUED  # the bot stops: resume at its next start
        case Lost() if not pausing:
            return _lost(job)
        case _:
            after_steps = isinstance(last, Preferring | Checking)
            return _crashed(job, exit_status, pausing=pausing, after_steps=after_steps)


def _crashed(job: TrainingJob, exit_status: int, *, pausing: bool, after_steps: bool) -> JobOutcome:
    """The process died without a final event: retry from the last saved step, up to MAX_ATTEMPTS
    times, with smaller batches if it probably ran out of memory, or `after_steps` without votes."""
    how = (
        phrase("signal {number}", number=-exit_status)
        if exit_status < 0
        else phrase("exit status {number}", number=exit_status)
    )
    log.error("the process of job %d ended (%s), attempt %d", job.id, how, job.attempts)
    if pausing:
        return paused(job)
    killed = exit_status == SIGKILL_STATUS
    if killed and after_steps and _leave_out_votes(Path(job.directory)):
        return REQUEUED  # what was taught is complete, and must not be lost for them
    if job.attempts >= MAX_ATTEMPTS:
        why = phrase("most often because memory ran out") if killed else phrase("see its log")
        reason = phrase(
            "The training was started {attempts} times and made no progress ({how}; {why}).",
            attempts=MAX_ATTEMPTS,
            how=how,
            why=why,
        )
        return _interrupted(job, reason)
    if killed:
        config = Path(job.directory) / CONFIG_FILE
        halve_batch_size(TrainingConfig.load(config)).save(config)
    return REQUEUED


def _lost(job: TrainingJob) -> JobOutcome:
    """It goes on elsewhere, unless that happened MAX_ATTEMPTS times before it saved a new step."""
    log.warning("job %d lost its machine, attempt %d", job.id, job.attempts)
    if job.attempts < MAX_ATTEMPTS:
        return REQUEUED
    reason = phrase(
        "The training was started {attempts} times, and each time the machine of the cluster on "
        "which it ran was lost.",
        attempts=MAX_ATTEMPTS,
    )
    return _interrupted(job, reason)


def _leave_out_votes(folder: Path) -> bool:
    """Let the next start learn nothing from votes; False if this one did not either."""
    marker = folder / NO_VOTES_FILE
    if marker.exists() or not (folder / PREFERENCES_FILE).is_file():
        return False
    marker.touch()
    return True


def _interrupted(job: TrainingJob, reason: str) -> JobOutcome:
    detail = join_phrases([reason, _resume_message(job), SERVING_UNCHANGED])
    return JobOutcome(JobState.INTERRUPTED, detail)


def paused_message(job: TrainingJob) -> Phrase:
    if latest_saved_step(Path(job.directory)) is None:
        return phrase("Paused before it began.")
    return join_phrases([phrase("Paused."), _resume_message(job)])


def _resume_message(job: TrainingJob) -> Phrase:
    saved = latest_saved_step(Path(job.directory))
    if saved is None:
        return phrase("Nothing was saved, so Resume starts over.")
    return phrase(
        "What was learned up to step {step} is kept: Resume continues from there.", step=saved.step
    )

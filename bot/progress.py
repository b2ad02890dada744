"""What the progress message of a training job says.

Pure: takes the events of a job, gives text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from data.schema import JobState, TrainingJob
from training.manager import JobUpdate
from training.progress import (
    Checking,
    Losses,
    Lowered,
    Paused,
    Started,
    Step,
    bar,
    duration,
    sparkline,
)


@dataclass(slots=True)
class Progress:
    """What is known of a job, from its events."""

    job: TrainingJob
    started: Started | None = None
    step: Step | None = None
    at_step: int = 0
    steps: int = 0
    losses: Losses = field(default_factory=Losses)
    note: str | None = None
    checking: bool = False
    paused: bool = False

    def take(self, update: JobUpdate) -> bool:
        """Learn from an update; whether it is news that cannot wait for the next step."""
        moved, self.job = update.job.state is not self.job.state, update.job
        match update.event:
            case Started() as event:
                self._start(event)
            case Step() as event:
                self.step, self.at_step, self.steps = event, event.step, event.steps
                self.losses.add(event.loss)
                return False
            case Lowered() as event:
                self.note = (
                    f"Memory ran out: going on with batch size {event.batch_size} "
                    f"and accumulation {event.gradient_accumulation}."
                )
            case Paused(step=step):
                self.at_step, self.paused = step, True
                return False  # the state comes next
            case Checking():
                self.checking = True
            case None if moved:
                self.checking, self.started, self.step = False, None, None
            case None:
                pass
            case _:
                return False
        return True

    def _start(self, event: Started) -> None:
        self.started, self.step, self.paused = event, None, False
        self.at_step, self.steps = event.resumed_from, event.steps
        if not event.resumed_from:
            self.losses = Losses()


def progress_text(progress: Progress) -> str:
    """What the progress message says now."""
    lines = [f"**Training** from {progress.job.base_model}{_doing(progress)}"]
    if progress.at_step:
        lines.append(_bar_line(progress))
    if progress.losses.points:
        lines.append(_loss_line(progress))
    if progress.note:
        lines.append(f"-# {progress.note}")
    return "\n".join(lines)


def _doing(progress: Progress) -> str:
    reached = f"step {progress.at_step} of {progress.steps}"
    match progress.job.state:
        case JobState.QUEUED:
            return " waits: another job is under way."
        case JobState.PAUSED:
            known = progress.paused and progress.steps
            return f". Paused at {reached}." if known else f". {progress.job.detail or 'Paused.'}"
        case _ if progress.checking:
            return ": every step is taken, and it checks the new model…"
        case _ if progress.step is not None:
            return ""
        case _ if progress.started is None:
            return ": getting ready…"
        case _ if progress.started.resumed_from:
            return f" goes on after {reached}."
        case _:
            return f": {progress.started.examples} rows, {progress.steps} steps."


def _bar_line(progress: Progress) -> str:
    at, steps = progress.at_step, progress.steps
    if not steps:  # paused by a bot that has forgotten how far the whole way is
        return f"step {at}"
    return f"`{bar(at, steps)}` {100 * at // steps} %, step {at} of {steps}"


def _loss_line(progress: Progress) -> str:
    line, step = f"`{sparkline(progress.losses.points)}`", progress.step
    if step is None:
        return f"loss {line}"
    return (
        f"loss {step.loss:.3f} {line} · {step.tokens_per_s:,.0f} tokens/s · "
        f"about {duration(step.seconds_left)} left"
    )

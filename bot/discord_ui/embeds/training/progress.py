"""The text of a training job's progress message, from the job's events. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from bot.discord_ui.embeds.style import examples_text
from core.records import JobState, TrainingJob
from i18n.phrase import Phrase, phrase
from i18n.reader import say
from training.jobs.events import (
    Checking,
    Loading,
    LossHistory,
    Lost,
    Lowered,
    Paused,
    Preferring,
    Preparing,
    Started,
    Step,
    Waiting,
    format_duration,
    progress_bar,
    sparkline,
)
from training.jobs.queue import JobUpdate


class Stage(Enum):
    """What a job that runs is doing."""

    STARTING = auto()
    WAITING = auto()
    PREPARING = auto()
    TRAINING = auto()
    PREFERRING = auto()
    EVALUATING = auto()
    LOADING = auto()


STAGE_BY_EVENT = {
    Waiting: Stage.WAITING,
    Preparing: Stage.PREPARING,
    Preferring: Stage.PREFERRING,
    Checking: Stage.EVALUATING,
    Loading: Stage.LOADING,
}
STAGE_TEXTS = {
    Stage.STARTING: phrase("starting…"),
    Stage.WAITING: phrase("waiting for the cluster to have room…"),
    Stage.PREPARING: phrase("preparing what is to be learned…"),
    Stage.PREFERRING: phrase("all steps are done, learning from votes…"),
    Stage.EVALUATING: phrase("all steps are done, evaluating the new model…"),
    Stage.LOADING: phrase("the new model has passed, loading it…"),
}


@dataclass(slots=True)
class JobProgress:
    """The progress of a job, accumulated from its events."""

    job: TrainingJob
    started: Started | None = None
    step: Step | None = None
    at_step: int = 0
    steps: int = 0
    losses: LossHistory = field(default_factory=LossHistory)
    note: Phrase | None = None
    stage: Stage = Stage.STARTING
    paused: bool = False

    def apply_update(self, update: JobUpdate) -> bool:
        """Apply an update; True if it must be shown at once, not with the next step."""
        moved, self.job = update.job.state is not self.job.state, update.job
        match update.event:
            case Started() as event:
                self._start(event)
            case Step() as event:
                self.stage, self.step = Stage.TRAINING, event
                self.at_step, self.steps = event.step, event.steps
                self.losses.add(event.loss)
                return False
            case Lowered() | Lost() as event:
                self.note = _note(event)
            case Paused(step=step):
                self.at_step, self.paused = step, True
                return False  # the state comes next
            case Waiting() | Preparing() | Preferring() | Checking() | Loading() as event:
                self.stage = STAGE_BY_EVENT[type(event)]
            case None:
                if moved:
                    self.stage, self.started, self.step = Stage.STARTING, None, None
            case _:
                return False
        return True

    def _start(self, event: Started) -> None:
        self.stage, self.started, self.step, self.paused = Stage.TRAINING, event, None, False
        self.at_step, self.steps = event.resumed_from, event.steps
        if not event.resumed_from:
            self.losses = LossHistory()


def _note(event: Lowered | Lost) -> Phrase:
    if isinstance(event, Lost):
        return phrase(
            "A machine of the cluster was lost: the training goes on elsewhere, from the last "
            "saved step."
        )
    return phrase(
        "Out of memory: continuing with batch size {size} and accumulation {times}.",
        size=event.batch_size,
        times=event.gradient_accumulation,
    )


def progress_text(progress: JobProgress) -> str:
    """The progress message."""
    lines = [_headline(progress)]
    if progress.at_step:
        lines.append(_bar_line(progress))
    if progress.losses.points:
        lines.append(_loss_line(progress))
    if progress.note:
        lines.append(f"-# {say(progress.note)}")
    return "\n".join(lines)


def _headline(progress: JobProgress) -> str:
    job, at, steps = progress.job, progress.at_step, progress.steps
    base = job.base_model
    match job.state:
        case JobState.QUEUED:
            return say("**Training** from {base} waits: another job is under way.", base=base)
        case JobState.PAUSED:
            where = phrase("Paused at step {at} of {steps}.", at=at, steps=steps)
            known = progress.paused and steps
            paused = where if known else job.detail or phrase("Paused.")
            return say("**Training** from {base}. {paused}", base=base, paused=paused)
        case _ if progress.stage in STAGE_TEXTS:
            stage = STAGE_TEXTS[progress.stage]
            return say("**Training** from {base}: {stage}", base=base, stage=stage)
        case _ if progress.started is None or progress.step is not None:
            return say("**Training** from {base}", base=base)
        case _ if progress.started.resumed_from:
            return say(
                "**Training** from {base} continues after step {at} of {steps}.",
                base=base,
                at=at,
                steps=steps,
            )
        case _:
            return say(
                "**Training** from {base}: {examples} in {rows} rows, {steps} steps.",
                base=base,
                examples=examples_text(progress.started.taught),
                rows=progress.started.examples,
                steps=steps,
            )


def _bar_line(progress: JobProgress) -> str:
    at, steps = progress.at_step, progress.steps
    if not steps:  # paused before a restart, and the number of steps is not stored
        return say("step {at}", at=at)
    return say(
        "`{bar}` {percent} %, step {at} of {steps}",
        bar=progress_bar(at, steps),
        percent=100 * at // steps,
        at=at,
        steps=steps,
    )


def _loss_line(progress: JobProgress) -> str:
    line, step = f"`{sparkline(progress.losses.points)}`", progress.step
    if step is None:
        return say("loss {line}", line=line)
    return say(
        "loss {loss:.3f} {line} · {speed:,.0f} tokens/s · about {time} left",
        loss=step.loss,
        line=line,
        speed=step.tokens_per_s,
        time=format_duration(step.seconds_left),
    )

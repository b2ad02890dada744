"""The events that a training process writes to its stdout, as JSON lines, and how to render them.

Knows neither tensors nor Discord.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TextIO, get_args

from core.subprocesses import own_stdout
from i18n.phrase import Phrase, deserialize_phrase, phrase, serialize_phrase

REASON_KEY = "reason"
"""The field that is a sentence: a serialised phrase, to be translated where it is shown."""


@dataclass(frozen=True, slots=True)
class Preparing:
    """The process has started: the base is loaded, the examples are mixed and tokenized."""


@dataclass(frozen=True, slots=True)
class Started:
    """The run is about to take its first step, or the one after `resumed_from`. `taught` is the
    number of stored examples, of which the `examples` rows are made. `trainable` of the model's
    `parameters` are trained; an epoch has `tokens` tokens."""

    device: str
    precision: str
    parameters: int
    trainable: int
    examples: int
    tokens: int
    steps: int
    epochs: float
    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    processes: int = 1
    resumed_from: int = 0
    taught: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """After optimiser step `step` of `steps`; `loss` in nats per token."""

    step: int
    steps: int
    epoch: float
    loss: float
    tokens_per_s: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Saved:
    """The state after `step` is on disk: the run can resume from there."""

    step: int


@dataclass(frozen=True, slots=True)
class Lowered:
    """Memory ran out; the run restarts with smaller batches and more accumulation."""

    batch_size: int
    gradient_accumulation: int


@dataclass(frozen=True, slots=True)
class Preferring:
    """All steps are taken; the model learns from votes, in `steps` steps more."""

    steps: int


@dataclass(frozen=True, slots=True)
class Checking:
    """Training is done; the new model is being evaluated."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The run ended on request; a restart resumes after `step`."""

    step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The checkpoint is sealed on disk and passed its checks."""

    checkpoint: str
    seconds: float
    first_loss: float
    last_loss: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """The checkpoint is sealed on disk but failed its checks."""

    checkpoint: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ended without a checkpoint. `resumable`: a retry may help, from the saved step."""

    reason: str
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class Loading:
    """The checkpoint passed its checks and is being loaded; sent by the bot, not by the process."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run has not begun: no machine of the cluster has room for it, or none can be reached."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The machine of the cluster on which it ran is gone."""


Event = (
    Preparing
    | Started
    | Step
    | Saved
    | Lowered
    | Preferring
    | Checking
    | Paused
    | Finished
    | Rejected
    | Failed
    | Loading
    | Waiting
    | Lost
)
_EVENT_TYPES: dict[str, type[Event]] = {kind.__name__.lower(): kind for kind in get_args(Event)}


def to_line(event: Event) -> str:
    """The event as one line of JSON, without the line end."""
    fields = asdict(event)
    if REASON_KEY in fields:
        fields[REASON_KEY] = serialize_phrase(fields[REASON_KEY])
    return json.dumps({"event": type(event).__name__.lower(), **fields})


def event_writer(out: TextIO | None = None) -> Callable[[Event], None]:
    """Write events to `out` (None: to stdout, and nothing else: a line that a library prints must
    not be taken for an event)."""
    events = out or own_stdout()

    def write(event: Event) -> None:
        with suppress(BrokenPipeError):  # the bot is gone; the run ends by the end of its stdin
            events.write(f"{to_line(event)}\n")
            events.flush()

    return write


def from_line(line: str) -> Event | None:
    """The event of a line; None if it is something else, such as a library's output."""
    try:
        fields = json.loads(line)
        if REASON_KEY in fields:
            fields[REASON_KEY] = deserialize_phrase(fields[REASON_KEY])
        return _EVENT_TYPES[fields.pop("event")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def progress_bar(step: int, steps: int, width: int = 20) -> str:
    done = width * step // steps if steps else width
    return "█" * done + "░" * (width - done)


def format_duration(seconds: float) -> Phrase:
    """A duration for people: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return phrase("{hours} h {minutes} min", hours=hours, minutes=minutes)
    if minutes:
        return phrase("{minutes} min {rest} s", minutes=minutes, rest=rest)
    return phrase("{seconds} s", seconds=rest)


SPARKLINE_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Iterable[float], width: int = 24) -> str:
    """The last `width` finite values as blocks of eight heights, scaled to their range."""
    shown = [value for value in values if math.isfinite(value)][-width:]
    if not shown:
        return ""
    low, span = min(shown), max(shown) - min(shown)
    if not 0 < span < math.inf:
        return SPARKLINE_BLOCKS[0] * len(shown)
    top = len(SPARKLINE_BLOCKS) - 1
    return "".join(SPARKLINE_BLOCKS[round((value - low) / span * top)] for value in shown)


@dataclass(slots=True)
class LossHistory:
    """The losses of a run in fewer than `max_points` points (an even number), each the mean of
    `steps_per_point` steps. When it is full, each two neighbours are merged into one."""

    max_points: int = 256
    steps_per_point: int = 1
    points: list[float] = field(default_factory=list)
    _pending: list[float] = field(default_factory=list)

    def add(self, loss: float) -> None:
        self._pending.append(loss)
        if len(self._pending) < self.steps_per_point:
            return
        self.points.append(fmean(self._pending))
        self._pending.clear()
        if len(self.points) >= self.max_points:
            self.points = list(map(fmean, zip(self.points[::2], self.points[1::2], strict=False)))
            self.steps_per_point *= 2

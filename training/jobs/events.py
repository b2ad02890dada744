"""The events that a training process sends to its parent: one JSON object a line on its stdout.

Knows no tensors and no Discord: the manager reads events, and the displays of progress render them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import get_args

from i18n.phrase import Phrase, deserialize_phrase, phrase, serialize_phrase

REASON_KEY = "reason"
"""The field of an event that is a sentence, serialised so that it can be translated later."""


@dataclass(frozen=True, slots=True)
class Started:
    """The run is about to take its first step, or the one after `resumed_from`.

    `parameters` of the model, `trainable` of them; `tokens` are those of one epoch.
    """

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


@dataclass(frozen=True, slots=True)
class Step:
    """After optimiser step `step` of `steps`; `loss` in nats a token, speed in tokens a second."""

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
class Checking:
    """All steps were taken; the new model is being evaluated."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The run ended on request; started again, it resumes after `step`."""

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
    """The checkpoint is sealed on disk but did not pass: `reason` is a sentence."""

    checkpoint: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ended without a checkpoint: `reason` is a sentence. `resumable`: a step was saved,
    and the reason may go away."""

    reason: str
    resumable: bool = False


Event = Started | Step | Saved | Lowered | Checking | Paused | Finished | Rejected | Failed
_EVENT_TYPES: dict[str, type[Event]] = {kind.__name__.lower(): kind for kind in get_args(Event)}


def to_line(event: Event) -> str:
    """The event as one line of JSON, without the line end."""
    fields = asdict(event)
    if REASON_KEY in fields:
        fields[REASON_KEY] = serialize_phrase(fields[REASON_KEY])
    return json.dumps({"event": type(event).__name__.lower(), **fields})


def from_line(line: str) -> Event | None:
    """The event of a line; None for any other line, such as a library's output."""
    try:
        fields = json.loads(line)
        if REASON_KEY in fields:
            fields[REASON_KEY] = deserialize_phrase(fields[REASON_KEY])
        return _EVENT_TYPES[fields.pop("event")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def progress_bar(step: int, steps: int, width: int = 20) -> str:
    """A bar of `width` characters for `step` of `steps`."""
    done = width * step // steps if steps else width
    return "█" * done + "░" * (width - done)


def format_duration(seconds: float) -> Phrase:
    """A duration for people: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
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
    return "".join(
        SPARKLINE_BLOCKS[round((value - low) / span * (len(SPARKLINE_BLOCKS) - 1))]
        for value in shown
    )


@dataclass(slots=True)
class LossHistory:
    """The losses of a long run in fewer than `max_points` points (an even number), each the mean of
    `steps_per_point` steps: when it is full, neighbours are merged into one point."""

    max_points: int = 256
    steps_per_point: int = 1
    points: list[float] = field(default_factory=list)
    _pending: list[float] = field(default_factory=list)

    def add(self, loss: float) -> None:
        """Add the loss of the next step."""
        self._pending.append(loss)
        if len(self._pending) < self.steps_per_point:
            return
        self.points.append(_mean(self._pending))
        self._pending.clear()
        if len(self.points) >= self.max_points:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            self.points = [_mean(pair) for pair in pairs]
            self.steps_per_point *= 2


def _mean(values: Iterable[float]) -> float:
    taken = list(values)
    return sum(taken) / len(taken)

"""What a training process tells its parent: one JSON object a line on stdout.

Knows no tensors, no Discord: the manager reads these, and whoever shows progress renders them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """The run is about to take its first step."""

    device: str
    precision: str
    parameters: int
    examples: int
    steps: int
    epochs: float
    batch_size: int
    gradient_accumulation: int
    learning_rate: float


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
class Finished:
    """The checkpoint is whole on disk and passed its checks."""

    checkpoint: str
    seconds: float
    first_loss: float
    last_loss: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """The checkpoint is whole on disk but did not pass: `reason` is a sentence."""

    checkpoint: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ended without a checkpoint: `reason` is a sentence."""

    reason: str


Event = Started | Step | Finished | Rejected | Failed
_KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Started, Step, Finished, Rejected, Failed)
}


def to_line(event: Event) -> str:
    """The event as one line of JSON, without the line end."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)})


def from_line(line: str) -> Event | None:
    """The event of a line; None for a line that is none (a library's chatter)."""
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("event")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def bar(step: int, steps: int, width: int = 20) -> str:
    """A bar of `width` characters for `step` of `steps`."""
    done = width * step // steps if steps else width
    return "█" * done + "░" * (width - done)


def duration(seconds: float) -> str:
    """Seconds as a person says them: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""The losses of a run as a curve of few points, from the files that the run leaves.

Imports neither torch nor transformers: the bot's process reads them. A file that is missing or
damaged is a curve without points.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from training.checkpoints import HISTORY_FILE
from training.jobs.folder import latest_saved_step

MAX_POINTS = 160
TRAINER_STATE_FILE = "trainer_state.json"
"""What transformers' Trainer saves of a step, with the losses up to there."""


class Point(NamedTuple):
    """The loss (in nats a token) of an optimiser step, or the mean of those up to it."""

    step: int
    loss: float


def checkpoint_curve(folder: Path) -> list[Point]:
    """The curve of the run that made a checkpoint (blocking)."""
    return thin(_points(_read(folder / HISTORY_FILE).get("log")))


def saved_curve(job: Path) -> list[Point]:
    """The curve of an unfinished job as far as it is saved (blocking)."""
    try:
        saved = latest_saved_step(job)
    except (OSError, ValueError, LookupError):
        return []
    if saved is None:
        return []
    return thin(_points(_read(saved.folder / TRAINER_STATE_FILE).get("log_history")))


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points, each the mean of as many neighbours."""
    width = math.ceil(len(points) / most) or 1
    parts = (points[start : start + width] for start in range(0, len(points), width))
    return [Point(part[-1].step, fmean(one.loss for one in part)) for part in parts]


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _points(log: object) -> list[Point]:
    entries: Iterable[object] = log if isinstance(log, list) else ()
    return [
        Point(int(entry["step"]), float(entry["loss"]))
        for entry in entries
        if isinstance(entry, Mapping)
        and isinstance(entry.get("step"), int)
        and isinstance(entry.get("loss"), int | float)
        and math.isfinite(entry["loss"])
    ]

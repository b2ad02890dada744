"""How the bot grows: what was taught on which day, and what its trainings made of it.

Reads the storage and the checkpoints' files; what takes long is kept in memory until it changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate
from pathlib import Path

from cachetools import LRUCache

from core.records import ReviewStatus, TrainingJob
from data.storage.storage import Storage
from training.checkpoints import (
    MANIFEST_FILE,
    REPORT_FILE,
    Manifest,
    StoredReport,
    iter_checkpoints,
    read_report,
)
from training.curves import MAX_POINTS, Point, checkpoint_curve, saved_curve, thin
from training.jobs.events import Step
from training.jobs.queue import JobUpdate

MAX_CACHED_FILES = 512
MAX_LIVE_POINTS = 4 * MAX_POINTS

Total = tuple[date, int]
"""A day, and how much the data set has of what was taught up to its end."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The size of a data set day by day, and its examples by status."""

    totals: Sequence[Total]
    statuses: Mapping[ReviewStatus, int]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of a server, with its evaluation; `size` in bytes."""

    folder: Path
    manifest: Manifest
    report: StoredReport | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def size(self) -> int:
        return sum(int(facts["bytes"]) for facts in self.manifest.files.values())

    @property
    def refusal(self) -> str | None:
        """Why it did not pass its checks."""
        return self.report.refusal if self.report else None

    def loss(self, kind: str, model: str) -> float | None:
        """A loss of its evaluation; see `StoredReport`."""
        return self.report.losses.get(kind, {}).get(model) if self.report else None


@dataclass(slots=True)
class _Live:
    """The losses of a run under way, thinned when they become many."""

    points: list[Point] = field(default_factory=list)

    def add(self, step: Step) -> None:
        if self.points and step.step <= self.points[-1].step:  # it started again from a saved step
            self.points = [one for one in self.points if one.step < step.step]
        self.points.append(Point(step.step, step.loss))
        if len(self.points) > MAX_LIVE_POINTS:
            self.points = thin(self.points, MAX_LIVE_POINTS // 2)


class GrowthReader:
    """Reads the growth of any server. Does not know who may see it."""

    def __init__(self, storage: Storage, checkpoints: Path) -> None:
        self._storage = storage
        self._checkpoints = checkpoints
        self._reports: LRUCache[tuple[Path, int], StoredReport | None] = LRUCache(MAX_CACHED_FILES)
        self._live: dict[int, _Live] = {}

    def drop(self) -> None:
        """Forget what is kept in memory of what was taught."""
        self._reports.clear()

    def follow(self, update: JobUpdate) -> None:
        """Follow a training job."""
        if update.job.state.is_final:
            self._live.pop(update.job.id, None)
        elif isinstance(update.event, Step):
            self._live.setdefault(update.job.id, _Live()).add(update.event)

    async def summary(self, scope: int) -> Summary:
        """How large the data set is, and was."""
        days = await self._storage.growth.days(scope)
        return Summary(running_totals(days), await self._storage.growth.statuses(scope))

    async def totals_of(self, scope: int, author_id: int) -> list[Total]:
        """How much of it a member has taught, day by day."""
        return running_totals(await self._storage.growth.days_of(scope, author_id))

    async def checkpoints(self, scope: int) -> list[Checkpoint]:
        """The server's checkpoints, the newest first."""
        return await asyncio.to_thread(self._read_checkpoints, scope)

    def _read_checkpoints(self, scope: int) -> list[Checkpoint]:
        found = [
            Checkpoint(folder, manifest, self._report(folder))
            for folder, manifest in iter_checkpoints(self._checkpoints / str(scope))
        ]
        return sorted(found, key=lambda one: (one.manifest.created_at, one.name), reverse=True)

    def _report(self, folder: Path) -> StoredReport | None:
        try:
            written = (folder / MANIFEST_FILE).stat().st_mtime_ns
            (folder / REPORT_FILE).stat()
        except OSError:
            return None
        key = folder, written
        if key not in self._reports:
            self._reports[key] = read_report(folder)
        return self._reports[key]

    async def curve(self, job: TrainingJob, checkpoint: Checkpoint | None) -> list[Point]:
        """The losses of a job: of its checkpoint, else as far as it has come."""
        if checkpoint is not None:
            return await asyncio.to_thread(checkpoint_curve, checkpoint.folder)
        live = self._live.get(job.id, _Live()).points
        saved = await asyncio.to_thread(saved_curve, Path(job.directory))
        first = live[0].step if live else None
        return thin([one for one in saved if first is None or one.step < first] + live)


def running_totals(days: Sequence[tuple[date, int]]) -> list[Total]:
    """The sums up to each of the days."""
    sums = accumulate(count for _, count in days)
    return [(day, total) for (day, _), total in zip(days, sums, strict=True)]

"""Freezes a scope's data set and settings into the folder of a new job.

Knows the examples, their consents and the files of a job's folder. Does not know how a job runs.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import StoreError, write_error
from core.records import Example, TrainingJob
from data.dataset.cleaning import Selection, select_examples
from data.dataset.snapshot import contributor_consents, write_snapshot
from data.storage.tables.examples import Examples
from data.storage.tables.jobs import Jobs
from i18n.phrase import phrase
from training.config import TrainingConfig
from training.errors import NOTHING_TAUGHT, EmptyDataset
from training.jobs.folder import (
    CHANGES_FILE,
    CHECKPOINT_DIR,
    CONFIG_FILE,
    CONSENT_FILE,
    DATASET_FILE,
    STEPS_DIR,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folder of a job to come, the examples in it, and whose words they are."""

    folder: Path
    scope: int
    examples: Sequence[Example]
    sources: Mapping[int, int | None]


class Snapshots:
    """Makes the folders of jobs, `job_root`/UUID. No checkpoint gets one of the `reserved_names`,
    which other models have; `author_share` of the examples may come from one member."""

    def __init__(
        self,
        examples: Examples,
        jobs: Jobs,
        job_root: Path,
        checkpoints: Path,
        *,
        author_share: float,
        reserved_names: Collection[str],
    ) -> None:
        self._examples = examples
        self._jobs = jobs
        self._folder = job_root
        self._checkpoints = checkpoints
        self._author_share = author_share
        self._reserved_names = reserved_names

    async def select(self, scope: int) -> Selection:
        """What the scope would train on now.

        Raises:
            EmptyDataset: nothing was taught.
        """
        examples = await self._examples.trainable(scope)
        selection = await asyncio.to_thread(
            select_examples, examples, author_share=self._author_share
        )
        if not selection.kept:
            raise EmptyDataset(NOTHING_TAUGHT)
        return selection

    async def take(self, scope: int, base: str, config: TrainingConfig) -> Snapshot:
        """Write the folder of a job that trains from `base`; the checkpoint is named here.

        Raises:
            EmptyDataset: nothing was taught.
            DiskFull, StoreError: it could not be written; nothing is left behind.
        """
        kept = (await self.select(scope)).kept
        config = replace(config, name=await self._new_checkpoint_name(scope, base))
        before = await self._serving_dataset(scope, config.serving)
        folder = self._folder / uuid.uuid4().hex
        snapshot = Snapshot(folder, scope, kept, contributor_consents(kept))
        try:
            await asyncio.to_thread(_write_folder, snapshot, config, before)
        except StoreError:
            discard(folder)
            raise
        return snapshot

    async def is_still_permitted(self, snapshot: Snapshot) -> bool:
        """Whether each of its examples may still be learned.

        To be asked once the job's sources are stored: an erasure or withdrawal after that finds
        the job by them, and one before it is found here.
        """
        allowed = {one.id for one in await self._examples.trainable(snapshot.scope)}
        return all(one.id in allowed for one in snapshot.examples)

    async def remove(self, job: TrainingJob) -> None:
        """Remove a job's data set, log and saved steps.

        Raises:
            StoreError: something of it could not be removed.
        """
        folder = self._folder / Path(job.directory).name  # the bot may have been moved since
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

    async def _serving_dataset(self, scope: int, serving: str | None) -> Path | None:
        """The data set of the model in service, if a job of the scope made it."""
        name = Path(serving).name if serving else None
        jobs = await self._jobs.with_checkpoint(scope)
        return next(
            (Path(one.directory) / DATASET_FILE for one in jobs if one.checkpoint == name), None
        )

    async def _new_checkpoint_name(self, scope: int, base: str) -> str:
        """`<base>-<n>`: a number that the scope never used, and that no open job will use."""
        jobs = await self._jobs.all(scope)
        used = {*self._reserved_names, *(job.checkpoint for job in jobs)}
        used |= await asyncio.to_thread(_planned_names, jobs)
        folder = self._checkpoints / str(scope)
        number = 1
        while (name := f"{base}-{number}") in used or (folder / name).exists():
            number += 1
        return name


def _write_folder(snapshot: Snapshot, config: TrainingConfig, before: Path | None) -> None:
    folder = snapshot.folder
    try:
        folder.mkdir(parents=True)
        write_snapshot(snapshot.examples, folder / DATASET_FILE)
        changes = _dataset_changes(folder / DATASET_FILE, before)
        (folder / CHANGES_FILE).write_text(json.dumps(changes) + "\n", encoding="utf-8")
        (folder / CONSENT_FILE).write_text(json.dumps(snapshot.sources) + "\n", encoding="utf-8")
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
    """The names of the checkpoints that these jobs will make; unreadable settings are skipped."""
    names = set()
    for job in jobs:
        with suppress(OSError, ValueError):
            names.add(TrainingConfig.load(Path(job.directory) / CONFIG_FILE).name)
    return names


def discard(folder: Path) -> None:
    """Remove the folder of a job that will not run, as far as possible."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_work_files(job: TrainingJob) -> None:
    """Keep the data set and the log of an ended job only; its checkpoint was moved elsewhere."""
    for name in (STEPS_DIR, CHECKPOINT_DIR, f"{CHECKPOINT_DIR}.partial"):
        shutil.rmtree(Path(job.directory) / name, ignore_errors=True)


def _remove_folder(folder: Path) -> None:
    while folder.exists():
        with suppress(FileNotFoundError):  # `remove_work_files` may run at the same time
            shutil.rmtree(folder)

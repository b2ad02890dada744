"""Writes a scope's data set, consents and settings to the folder of a new job, and removes it.

Does not know how a job runs.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from core.errors import StoreError, write_error
from core.files import write_atomically
from core.records import Example, GoldenQuestion, JobState, JudgedReply, TrainingJob
from data.dataset.cleaning import Selection, select_examples
from data.dataset.preferences import (
    PreferenceSelection,
    select_preferences,
    write_preferences,
)
from data.dataset.snapshot import contributor_consents, write_snapshot
from data.judgement.golden import write_questions
from data.storage.storage import Storage
from i18n.phrase import phrase
from training.checkpoints import MANIFEST_FILE, iter_checkpoints
from training.config import TrainingConfig
from training.errors import NOTHING_TAUGHT, EmptyDataset
from training.jobs.folder import (
    CHANGES_FILE,
    CHECKPOINT_DIR,
    CONFIG_FILE,
    CONSENT_FILE,
    DATASET_FILE,
    GOLDEN_FILE,
    LOG_FILE,
    PREFERENCES_FILE,
    RECEIPT_FILE,
    REMOVED_FILE,
    STEPS_DIR,
    TAUGHT_CONSENT_FILE,
)
from training.jobs.receipt import drop_digests

FOLDER_NAME = re.compile("[0-9a-f]{32}")
MayStillSay = Callable[[int], Awaitable[Callable[[str], bool]]]
"""Whether the bot may say a text in a scope, by the filters that apply there now."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folder of a new job, its examples and judged replies, and the `golden` questions that its
    model will be asked; `sources`: the contributors' consents; `taught_sources`: those of the
    examples alone."""

    folder: Path
    scope: int
    examples: Sequence[Example]
    sources: Mapping[int, int | None]
    preferences: PreferenceSelection
    golden: Sequence[GoldenQuestion] = ()
    taught_sources: Mapping[int, int | None] = field(default_factory=dict)


class Snapshots:
    """Creates the folders of jobs, `job_root`/UUID. Checkpoints get none of the `reserved_names`
    of other models; one member contributes at most `author_share` of the examples. Without
    `may_say`, nothing is learned from votes."""

    def __init__(
        self,
        storage: Storage,
        job_root: Path,
        checkpoints: Path,
        author_share: float,
        reserved_names: Collection[str],
        may_say: MayStillSay | None = None,
    ) -> None:
        self._examples, self._jobs, self._golden = storage.examples, storage.jobs, storage.golden
        self._folder = job_root
        self._checkpoints = checkpoints
        self._author_share = author_share
        self._reserved_names = reserved_names
        self._may_say = may_say

    async def select(self, scope: int) -> Selection:
        """The examples that the scope would train on now. Raises EmptyDataset if nothing was
        taught."""
        examples, share = await self._examples.trainable(scope), self._author_share
        selection = await asyncio.to_thread(select_examples, examples, author_share=share)
        if not selection.kept:
            raise EmptyDataset(NOTHING_TAUGHT)
        return selection

    async def judged(self, scope: int, kept: Collection[Example]) -> PreferenceSelection | None:
        """What people prefer of what models said to the scope, where the `kept` examples are
        learned; None if nothing is learned from votes."""
        if self._may_say is None:
            return None
        may_say, judged = await self._may_say(scope), await self._examples.judged(scope)
        return await asyncio.to_thread(select_preferences, judged, kept, may_say)

    async def take(self, scope: int, base: str, config: TrainingConfig) -> Snapshot:
        """Write the folder of a job that trains from `base`, and name its checkpoint. Raises
        EmptyDataset if nothing was taught. Raises DiskFull, StoreError if it could not be written;
        nothing is left behind."""
        kept = (await self.select(scope)).kept
        name = await self._new_checkpoint_name(scope, base)
        preferences = await self.judged(scope, kept)
        if preferences is None or not preferences.counts.suffice:
            preferences = PreferenceSelection()
        config = replace(
            config,
            name=name,
            examples=len(kept),
            preferences=preferences.counts if preferences.rows else None,
        )
        before = await self._serving_dataset(scope, config.serving)
        folder = self._folder / uuid.uuid4().hex
        sources = await self._sources(kept, preferences.judged)
        taught = await self._sources(kept, ()) if preferences.rows else {}
        golden = await self._golden.all(scope)
        snapshot = Snapshot(folder, scope, kept, sources, preferences, golden, taught)
        try:
            await asyncio.to_thread(_write_folder, snapshot, config, before)
        except StoreError:
            await asyncio.to_thread(discard, folder)
            raise
        return snapshot

    async def is_still_permitted(self, snapshot: Snapshot) -> bool:
        """Whether all of its examples and votes may still be learned. Call it once the job's
        sources are stored: a later erasure or withdrawal finds the job by them, and an earlier one
        shows here."""
        allowed = {one.id for one in await self._examples.trainable(snapshot.scope)}
        judged = snapshot.preferences.judged
        sources = await self._sources(snapshot.examples, judged)
        if judged:
            now = _judgements(await self._examples.judged(snapshot.scope))
            if not _judgements(judged) <= now:
                return False
        return (
            all(one.id in allowed for one in snapshot.examples)
            and snapshot.sources.keys() <= sources.keys()
        )

    async def _sources(
        self, examples: Sequence[Example], judged: Sequence[JudgedReply]
    ) -> dict[int, int | None]:
        """Whose words are learned, and whose votes; who only votes needs no consent."""
        others = await self._examples.other_teachers(one.id for one in examples)
        voters = (who for one in judged for who in one.judges)
        learned = {one.id: one for one in (*examples, *(one.example for one in judged))}
        return dict.fromkeys([*others, *voters]) | contributor_consents(learned.values())

    async def forget_unlearned(self, job: TrainingJob) -> None:
        """Name nobody for votes that a job did not keep, once it has a checkpoint. May be repeated:
        the file comes first, or `recover` would take those for missing."""
        taught = await asyncio.to_thread(_leave_out_voters, self._folder_of(job))
        if taught is not None:
            await self._jobs.keep_sources(job.id, taught)

    async def recover(self) -> list[TrainingJob]:
        """Make sure that each snapshot is found by whose words it holds, although the bot may have
        been killed while it submitted a job. A folder without a job is removed; returned are the
        jobs whose sources were missing, so that nobody has checked whether they may be learned."""
        jobs = {Path(job.directory).name: job for job in await self._jobs.all()}
        unchecked = []
        stored = await asyncio.to_thread(_recover_sources, self._folder, jobs)
        for name, sources in stored.items():
            job = jobs[name]
            known = await self._jobs.sources(job.id)
            if sources.keys() - known.keys():
                await self._jobs.add_sources(job.id, sources | known)
                unchecked.append(job)
        return unchecked

    async def trim(self) -> None:
        """Remove the data of ended jobs that led to no checkpoint, or to one that is gone, and the
        digests of what was taken out and is in no checkpoint any more."""
        await asyncio.to_thread(_trim, await self._jobs.all(), self._checkpoints)

    async def remove(self, job: TrainingJob) -> None:
        """Remove a job's folder. Raises StoreError if it could not be removed completely."""
        try:
            await asyncio.to_thread(_remove_folder, self._folder_of(job))
        except OSError as e:
            raise StoreError(
                phrase(
                    "The data of training job {job} could not be removed: {error}.",
                    job=job.id,
                    error=e.strerror,
                )
            ) from e

    def _folder_of(self, job: TrainingJob) -> Path:
        return self._folder / Path(job.directory).name  # `job_root` may have moved since

    async def _serving_dataset(self, scope: int, serving: str | None) -> Path | None:
        """The data set of the model in service, if a job of the scope made it."""
        name = Path(serving).name if serving else None
        jobs = await self._jobs.with_checkpoint(scope)
        folders = (Path(job.directory) for job in jobs if job.checkpoint == name)
        return next((folder / DATASET_FILE for folder in folders), None)

    async def _new_checkpoint_name(self, scope: int, base: str) -> str:
        """`<base>-<n>` with the first number that no job of the scope has used or will use."""
        jobs = await self._jobs.all(scope)
        used = {*self._reserved_names, *(job.checkpoint for job in jobs)}
        used |= await asyncio.to_thread(_planned_names, jobs)
        folder = self._checkpoints / str(scope)
        names = (f"{base}-{number}" for number in count(1))
        return next(name for name in names if name not in used and not (folder / name).exists())


def _write_folder(snapshot: Snapshot, config: TrainingConfig, before: Path | None) -> None:
    folder = snapshot.folder
    try:
        folder.mkdir(parents=True)
        write_snapshot(snapshot.examples, folder / DATASET_FILE)
        if snapshot.preferences.rows:
            write_preferences(snapshot.preferences.rows, folder / PREFERENCES_FILE)
            taught = json.dumps(snapshot.taught_sources) + "\n"
            (folder / TAUGHT_CONSENT_FILE).write_text(taught, encoding="utf-8")
        changes = _dataset_changes(folder / DATASET_FILE, before)
        (folder / CHANGES_FILE).write_text(json.dumps(changes) + "\n", encoding="utf-8")
        (folder / CONSENT_FILE).write_text(json.dumps(snapshot.sources) + "\n", encoding="utf-8")
        write_questions(snapshot.golden, folder / GOLDEN_FILE)
        config.save(folder / CONFIG_FILE)
    except OSError as e:
        raise write_error(phrase("The training job"), e) from e


def _judgements(judged: Iterable[JudgedReply]) -> set[tuple[int, int]]:
    """Who judged the reply of which example."""
    return {(one.example.id, who) for one in judged for who in one.judges}


def _dataset_changes(now: Path, before: Path | None) -> dict[str, int] | None:
    """How many examples were added, removed and kept since `before`; None without it."""
    if before is None or not before.is_file():
        return None
    new, old = (set(one.read_text(encoding="utf-8").splitlines()) for one in (now, before))
    return {"added": len(new - old), "removed": len(old - new), "same": len(new & old)}


def _planned_names(jobs: Sequence[TrainingJob]) -> set[str]:
    """The checkpoint names in the jobs' settings, as far as they can be read."""
    names = set()
    for job in jobs:
        with suppress(OSError, ValueError):
            names.add(TrainingConfig.load(Path(job.directory) / CONFIG_FILE).name)
    return names


def discard(folder: Path) -> None:
    """Remove the folder of a job that will not run; errors are ignored."""
    shutil.rmtree(folder, ignore_errors=True)


def _recover_sources(root: Path, jobs: Collection[str]) -> dict[str, dict[int, int | None]]:
    """Whose words the folders of `jobs` hold; other folders that `Snapshots.take` named are
    removed."""
    folders = [path for path in root.glob("*") if FOLDER_NAME.fullmatch(path.name)]
    for folder in folders:
        if folder.name not in jobs:
            discard(folder)
    return {one.name: _stored_sources(one) for one in folders if one.name in jobs}


def _stored_sources(folder: Path, name: str = CONSENT_FILE) -> dict[int, int | None]:
    """Whose words a folder holds, as it was written; empty if that cannot be read."""
    try:
        stored = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {int(member): version for member, version in stored.items()}


def _leave_out_voters(folder: Path) -> dict[int, int | None] | None:
    """Whose words a run learned that kept nothing of its votes: from now on the folder names nobody
    else. None: it kept them, or there were none."""
    taught = folder / TAUGHT_CONSENT_FILE
    if (folder / PREFERENCES_FILE).exists() or not taught.exists():
        return None
    write_atomically(folder / CONSENT_FILE, taught.read_bytes(), phrase("The training job"))
    return _stored_sources(folder, TAUGHT_CONSENT_FILE)


def _trim(jobs: Sequence[TrainingJob], checkpoints: Path) -> None:
    for job in jobs:
        if job.state.is_final and job.state is not JobState.INTERRUPTED:
            checkpoint = checkpoints / str(job.scope) / (job.checkpoint or ".")
            if not (checkpoint / MANIFEST_FILE).is_file():
                remove_data(job)
            if (Path(job.directory) / REMOVED_FILE).exists():
                drop_digests(job, list(iter_checkpoints(checkpoint.parent)))


def remove_data(job: TrainingJob) -> None:
    """Remove all files of an ended job but those without anybody's words: its settings, log,
    receipt, and the digests that belong to that. Errors are ignored."""
    for path in Path(job.directory).glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (CONFIG_FILE, LOG_FILE, RECEIPT_FILE, REMOVED_FILE):
            with suppress(OSError):
                path.unlink()


def remove_work_files(job: TrainingJob) -> None:
    """Remove an ended job's saved steps and unfinished checkpoint."""
    for name in (STEPS_DIR, CHECKPOINT_DIR, f"{CHECKPOINT_DIR}.partial"):
        shutil.rmtree(Path(job.directory) / name, ignore_errors=True)


def _remove_folder(folder: Path) -> None:
    while folder.exists():
        with suppress(FileNotFoundError):  # `remove_work_files` may run at the same time
            shutil.rmtree(folder)

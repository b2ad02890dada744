"""Checkpoint retention: which checkpoints are needed, and which are removed to save disk space.

Knows the choices of models, the open jobs and the folders. Does not know Discord.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from core.errors import StoreError
from core.records import TrainingJob
from data.storage.storage import Storage
from i18n.phrase import phrase
from model.convert.adapter_folder import BASES_DIR
from model.errors import UnknownModel
from training.checkpoints import (
    MANIFEST_FILE,
    Manifest,
    folder_bytes,
    iter_checkpoints,
    remove_checkpoint,
    remove_leftovers,
)
from training.config import TrainingConfig
from training.errors import CheckpointInUse
from training.jobs.folder import CONFIG_FILE
from training.shared_bases import iter_shared_bases, refers_to

log = logging.getLogger(__name__)


class CheckpointRetention:
    """The checkpoints of all scopes, `root`/SCOPE/NAME. Together they may take `limit_mb`, with the
    shared bases of adapters (`training.shared_bases`), which stay while one needs them."""

    def __init__(self, storage: Storage, root: Path, limit_mb: int) -> None:
        self._storage = storage
        self._root = root
        self._limit_bytes = limit_mb * 1_000_000

    def find(self, scope: int, name: str) -> tuple[Path, Manifest]:
        """A checkpoint of the scope, by its name. Raises UnknownModel if the scope has none of that
        name."""
        for folder, manifest in iter_checkpoints(self._root / str(scope)):
            if folder.name == name:
                return folder, manifest
        raise UnknownModel(phrase("This server has no checkpoint called “{name}”.", name=name))

    async def removable_folder(self, scope: int, name: str) -> Path:
        """The folder of a checkpoint that may be removed. Raises UnknownModel if the scope has none
        of that name. Raises CheckpointInUse if it is in service, or an open job needs it."""
        folder, _ = await asyncio.to_thread(self.find, scope, name)
        if await self._storage.model_choices.active(scope) == name:
            raise CheckpointInUse(
                phrase(
                    "**{name}** answers here now: choose another model first, with `/model use`.",
                    name=name,
                )
            )
        if folder in await self._needed_by_jobs():
            raise CheckpointInUse(
                phrase(
                    "A training job needs **{name}**: wait until it has ended, or stop it.",
                    name=name,
                )
            )
        return folder

    async def delete(self, scope: int, name: str) -> None:
        """Remove a checkpoint for good, even if a rollback would return to it. Raises UnknownModel,
        CheckpointInUse: as `removable_folder`. Raises StoreError if something of it could not be
        removed."""
        async with self._storage.model_choices.lock(scope):
            folder = await self.removable_folder(scope, name)
            try:
                await asyncio.to_thread(remove_checkpoint, folder)
                kept = await self._needed_by_jobs()
                await asyncio.to_thread(self._remove_unused_bases, kept, self._checkpoints())
            except OSError as e:
                raise StoreError(
                    phrase("{name} was only partly removed: {error}.", name=name, error=e.strerror)
                ) from e
            log.info("removed %s of %d", name, scope)

    def usage(self) -> tuple[int, int]:
        """How many checkpoints there are, and the bytes that they and their bases take."""
        sizes = self._sizes(self._checkpoints())
        return len(sizes), sum(sizes) + sum(self._sizes(iter_shared_bases(self._root)))

    def _sizes(self, folders: Iterable[tuple[Path, Manifest]]) -> list[int]:
        sizes = []
        for folder, _ in folders:
            with suppress(FileNotFoundError):  # it is being removed
                sizes.append(folder_bytes(folder))
        return sizes

    def _scopes(self) -> list[Path]:
        """The folders of scopes; others are the operator's own."""
        return [path for path in self._root.glob("*") if path.name.isdigit()]

    def _checkpoints(self) -> Iterator[tuple[Path, Manifest]]:
        """Those of all scopes, read one after the other."""
        for scope in self._scopes():
            yield from iter_checkpoints(scope)

    async def prune(self, keep: Path) -> list[Path]:
        """Remove the oldest unused checkpoints until the rest fits; the removed folders.

        Never removed are `keep` (the newest one), those in service, on trial or in a duel, those
        that a rollback would return to, and those that open jobs need."""
        async with AsyncExitStack() as locks:
            for scope in self._scopes():
                lock = self._storage.model_choices.lock(int(scope.name))
                await locks.enter_async_context(lock)
            kept = {keep, *await self._in_service(), *await self._being_judged()}
            kept |= await self._needed_by_jobs()
            removed = await asyncio.to_thread(self._prune_to_limit, kept)
        for folder in removed:
            log.info("removed %s of %s to make room", folder.name, folder.parent.name)
        return removed

    async def _in_service(self) -> set[Path]:
        """The checkpoints in service, and the one that each scope would roll back to."""
        active = await self._storage.model_choices.all_active()
        found = {self._root / str(scope) / name for scope, name in active}
        for scope, name in active:
            former = await self._storage.model_choices.previous(scope)
            folders = [self._root / str(scope) / one for one in former if one != name]
            found |= set([one for one in folders if (one / MANIFEST_FILE).is_file()][:1])
        return found

    async def _being_judged(self) -> set[Path]:
        """The checkpoints on trial, and those in a duel."""
        found = {(one.scope, one.model) for one in await self._storage.canaries.running()}
        for duel in await self._storage.duels.running():
            found |= {(duel.scope, duel.model_a), (duel.scope, duel.model_b)}
        return {self._root / str(scope) / name for scope, name in found}

    async def _needed_by_jobs(self) -> set[Path]:
        jobs = await self._storage.jobs.unfinished()
        return {folder for job in jobs for folder in self._needed_by(job)}

    def _needed_by(self, job: TrainingJob) -> set[Path]:
        """The base of the job, the models that it is compared with, and its new checkpoint."""
        try:
            config = TrainingConfig.load(Path(job.directory) / CONFIG_FILE)
        except (OSError, ValueError) as e:
            log.warning("the settings of job %d cannot be read: %s", job.id, e)
            return set()
        replaced = config.replaces and config.replaces.checkpoint
        sources = {Path(one) for one in (config.base, config.serving, replaced) if one}
        return sources | {self._root / str(job.scope) / config.name}

    def _prune_to_limit(self, kept: Collection[Path]) -> list[Path]:
        for parent in (self._root / BASES_DIR, *self._scopes()):
            remove_leftovers(parent)
        left = dict(self._checkpoints())  # read once: there may be thousands
        self._remove_unused_bases(kept, left.items())
        oldest_first = sorted(left, key=lambda folder: (left[folder].created_at, folder))
        sizes = {folder: folder_bytes(folder) for folder in oldest_first}
        total = sum(sizes.values()) + sum(self._sizes(iter_shared_bases(self._root)))
        removed = []
        for folder, taken in sizes.items():
            if total <= self._limit_bytes:
                break
            if folder in kept or not _try_remove(folder):
                continue
            del left[folder]
            total -= taken + self._remove_unused_bases(kept, left.items())
            removed.append(folder)
        return removed

    def _remove_unused_bases(
        self, kept: Collection[Path], left: Iterable[tuple[Path, Manifest]]
    ) -> int:
        """Remove the shared bases that none of the checkpoints `left` refers to, and that no open
        job starts from; the bytes that they took."""
        bases = list(iter_shared_bases(self._root))
        if not bases:  # then no manifest need be read
            return 0
        checkpoints = [one for _, one in left]
        taken = 0
        for folder, base in bases:
            if Path(base.base or "") in kept or any(refers_to(one, base) for one in checkpoints):
                continue
            size = folder_bytes(folder)
            if _try_remove(folder):
                log.info("removed the base %s: no adapter needs it any more", folder.name)
                taken += size
        return taken


def _try_remove(folder: Path) -> bool:
    try:
        remove_checkpoint(folder)
    except OSError as e:
        log.warning("%s could not be removed: %s", folder, e)
        return False
    return True

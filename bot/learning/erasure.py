"""Withdrawn consents and erased members: the training jobs and checkpoints that are affected.

Knows the store, the training manager and its checkpoints. Does not know Discord: the prompt for a
clean retrain, which a server's administrators see, is a callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from core.records import Example, TrainingJob
from data.dataset.cleaning import select_examples
from data.dataset.snapshot import pair_digest
from data.storage.erasure import erase_member, resume_erasures
from data.storage.storage import Storage
from data.storage.tombstones import Tombstones
from training.checkpoints import read_learned
from training.jobs.manager import TrainingManager


@dataclass(frozen=True, slots=True)
class AffectedScope:
    """A scope whose `checkpoints` learned examples that were since withdrawn. A clean retrain
    replaces the job `job_id`; `stopped`: a job was ended before it had a checkpoint."""

    scope: int
    checkpoints: tuple[str, ...]
    job_id: int
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The outcome of an opt-out; `erased` counts the examples that were waiting for review."""

    was_given: bool
    erased: int
    affected_scopes: list[AffectedScope]


PromptCleanRetrain = Callable[[AffectedScope], Awaitable[None]]


class Erasure:
    """Erases members and withdraws consents. `tombstones` list the erased members, in case a
    restored backup brings them back; `drop_caches` drops words of a member that are in
    memory only."""

    def __init__(
        self,
        storage: Storage,
        training: TrainingManager,
        prompt_clean_retrain: PromptCleanRetrain,
        tombstones: Tombstones,
        drop_caches: Callable[[int], None],
    ) -> None:
        self._storage = storage
        self._training = training
        self._prompt_clean_retrain = prompt_clean_retrain
        self._tombstones = tombstones
        self._drop_caches = drop_caches
        # Two members' erasures may discard the same job: the second must see the first's result.
        self._lock = asyncio.Lock()

    async def erase_member(self, user_id: int) -> list[AffectedScope]:
        """Erase everything about a member, except what checkpoints have learned: the affected
        scopes are prompted for a clean retrain. `resume_pending` resumes an interrupted erasure.

        Raises:
            StoreError: the erasure is incomplete.
        """
        affected: list[AffectedScope] = []

        async def erase_external(member: int) -> None:
            affected.extend(await self._erase_training_data(member))

        await erase_member(self._storage, user_id, erase_external=erase_external)
        return affected

    async def is_pending(self, user_id: int) -> bool:
        """Whether the member's erasure has begun, but is not complete."""
        return user_id in await self._storage.erasures.unfinished()

    async def reapply_after_restore(self) -> None:
        """Mark members for erasure again whose erasure this database does not know: then it is a
        backup from before.

        Raises:
            StoreError: the database or the tombstones cannot be used.
        """
        last = await self._storage.erasures.last_write_time()
        if last is None:  # a new database: whoever comes to it now was not forgotten since
            await self._storage.marks.set_erasures(await asyncio.to_thread(self._tombstones.last))
            return
        known = await self._storage.marks.erasures()
        for user_id in await asyncio.to_thread(self._tombstones.since, known, last):
            await self._storage.erasures.begin(user_id)

    async def resume_pending(self) -> None:
        """Resume interrupted erasures; a scope may then be prompted a second time.

        Raises:
            StoreError: an erasure is still incomplete.
        """
        await resume_erasures(self._storage, erase_external=self._erase_training_data)

    async def withdraw_consent(self, user_id: int, scope: int | None) -> Withdrawal:
        """Withdraw a member's consent in a scope (None: in all).

        Collected examples that wait for review are erased. Jobs in progress that use the consent
        are stopped, and their scopes prompted for a clean retrain.
        """
        was_given = bool(await self._storage.consents.opt_out(scope, user_id))
        erased = await self._storage.examples.remove_pending_collected(user_id, scope)
        await self._storage.erasures.truncate_wal()
        jobs = [job for job in await self._by_consent(user_id) if scope in (None, job.scope)]
        unfinished = [job for job in jobs if not job.state.is_final]
        for job in unfinished:
            await self._training.discard(job)
        # Read again: a job may have finished before it could be stopped, and have a checkpoint.
        jobs = [now for job in jobs if (now := await self._storage.jobs.get(job.id))]
        stopped = [job.id for job in unfinished]
        ended = [job for job in jobs if job.id in stopped]
        for affected in await self._affected_scopes(ended, stopped):
            await self._prompt_clean_retrain(affected)
        return Withdrawal(was_given, erased, await self._affected_scopes(jobs))

    async def _by_consent(self, user_id: int) -> list[TrainingJob]:
        """The jobs with words of the member that were collected by consent, not taught."""
        jobs = await self._storage.jobs.with_member(user_id)
        versions = [(await self._storage.jobs.sources(job.id)).get(user_id) for job in jobs]
        return [job for job, version in zip(jobs, versions, strict=True) if version is not None]

    async def checkpoints_trained_on(self, user_id: int, scope: int) -> tuple[str, ...]:
        """The names of the scope's checkpoints that learned words of a member."""
        jobs = await self._storage.jobs.trained_on_member(user_id)
        affected = await self._affected_scopes(job for job in jobs if job.scope == scope)
        return affected[0].checkpoints if affected else ()

    async def checkpoints_that_learned(
        self, scope: int, examples: Sequence[Example]
    ) -> AffectedScope | None:
        """The scope's checkpoints that learned any of these examples; None if none is known to
        have."""
        digests = await asyncio.to_thread(_digests, examples)
        jobs = await self._storage.jobs.with_checkpoint(scope)
        made = await asyncio.to_thread(self._training.checkpoints, scope)
        folders = {folder.name: folder for folder, _ in made}
        learned = [
            job
            for job in jobs
            if job.checkpoint in folders
            and digests & (await asyncio.to_thread(read_learned, folders[job.checkpoint])).seen
        ]
        return next(iter(await self._affected_scopes(learned)), None)

    async def _erase_training_data(self, user_id: int) -> list[AffectedScope]:
        async with self._lock:
            jobs = await self._storage.jobs.with_member(user_id)
            for job in jobs:
                await self._training.discard(job)
            stopped = [job.id for job in jobs if not job.state.is_final]
            jobs = await self._storage.jobs.with_member(user_id)  # with what they came to meanwhile
            found = await self._affected_scopes(jobs, stopped)
            for affected in found:
                await self._prompt_clean_retrain(affected)
            # Only now: if this is interrupted, the resumed erasure must still find the jobs.
            await self._storage.jobs.remove_sources_of_member(user_id)
            await self._record(user_id)
            self._drop_caches(user_id)
            return found

    async def _record(self, user_id: int) -> None:
        """Number the erasure: outside of the database first, so that a kill repeats it."""
        known = await self._storage.marks.erasures()
        number = await asyncio.to_thread(self._tombstones.add, user_id, known)
        await self._storage.marks.set_erasures(number)

    async def _affected_scopes(
        self, jobs: Iterable[TrainingJob], stopped: Collection[int] = ()
    ) -> list[AffectedScope]:
        by_scope: dict[int, list[TrainingJob]] = {}
        for job in jobs:
            by_scope.setdefault(job.scope, []).append(job)
        found = [await self._affected_scope(scope, of, stopped) for scope, of in by_scope.items()]
        return [one for one in found if one.checkpoints or one.stopped]

    async def _affected_scope(
        self, scope: int, jobs: list[TrainingJob], stopped: Collection[int]
    ) -> AffectedScope:
        """The scope's checkpoints made by these jobs, and those further trained from them."""
        made = {job.checkpoint for job in jobs if job.checkpoint is not None}
        names = tuple(
            folder.name
            for folder, manifest in await asyncio.to_thread(self._training.checkpoints, scope)
            if folder.name in made or made.intersection(manifest.parents)
        )
        # A clean retrain should replace the model in use, if that is affected.
        active = await self._storage.model_choices.active(scope)
        with_checkpoint = await self._storage.jobs.with_checkpoint(scope)
        serving = [job for job in with_checkpoint if job.checkpoint == active and active in names]
        return AffectedScope(
            scope=scope,
            checkpoints=names,
            job_id=(serving or jobs)[-1].id,
            stopped=any(job.id in stopped and job.checkpoint is None for job in jobs),
        )


def _digests(examples: Iterable[Example]) -> frozenset[str]:
    """The digests of examples as they are learned, each by itself: a checkpoint may have learned
    what would be left out now, beside a newer answer."""
    cleaned = (kept for one in examples for kept in select_examples([one]).kept)
    return frozenset(pair_digest(one.user, one.bot) for one in cleaned)

"""What a member takes back: their consent, or everything; with it the data of training jobs.

Knows the store, the training manager and which checkpoints there are. Does not know Discord: how a
server's administrators are asked for a clean retrain is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

from core.records import TrainingJob
from data.storage.erasure import erase_member, resume_erasures
from data.storage.storage import Storage
from data.storage.tombstones import Tombstones
from training.jobs.manager import TrainingManager


@dataclass(frozen=True, slots=True)
class AffectedScope:
    """What a scope has to know: `checkpoints_trained_on` learned something that was taken back
    since.

    `job_id` is the job that a clean retrain follows; `stopped` says that one had to be ended.
    """

    scope: int
    checkpoints: tuple[str, ...]
    job_id: int
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A consent was withdrawn, if one `was_given`; `erased` pairs waited for review."""

    was_given: bool
    erased: int
    affected_scopes: list[AffectedScope]


PromptCleanRetrain = Callable[[AffectedScope], Awaitable[None]]


class Erasure:
    """Forgets members, one after the other. `offer` asks a scope for a clean retrain; `noted`
    keeps who was forgotten, should a backup bring them back."""

    def __init__(
        self,
        storage: Storage,
        training: TrainingManager,
        offer: PromptCleanRetrain,
        noted: Tombstones,
    ) -> None:
        self._storage = storage
        self._training = training
        self._prompt_clean_retrain = offer
        self._erased_list = noted
        self._lock = asyncio.Lock()

    async def erase_member(self, user_id: int) -> list[AffectedScope]:
        """Erase a member's traces; what cannot be erased is what checkpoints learned.

        Each scope concerned is asked for a clean retrain. If this is interrupted, `resume_pending`
        goes on.

        Raises:
            StoreError: not all of it is gone yet.
        """
        found: list[AffectedScope] = []

        async def outside(member: int) -> None:
            found.extend(await self._erase_training_data(member))

        await erase_member(self._storage, user_id, erase_external=outside)
        return found

    async def is_pending(self, user_id: int) -> bool:
        """Whether something of a member who asked to be forgotten may still be there."""
        return user_id in await self._storage.erasures.unfinished()

    async def reapply_after_restore(self) -> None:
        """Begin again to forget whom a backup brought back that was made before.

        Raises:
            StoreError: the database, or the list of whom was forgotten, cannot be used.
        """
        last = await self._storage.erasures.last_write_time()
        if last is None:
            return
        for user_id in await asyncio.to_thread(self._erased_list.since, last):
            await self._storage.erasures.begin(user_id)

    async def resume_pending(self) -> None:
        """Go on with what was interrupted; a scope may then be asked a second time.

        Raises:
            StoreError: not all of it is gone yet.
        """

        async def outside(member: int) -> None:
            await self._erase_training_data(member)

        await resume_erasures(self._storage, erase_external=outside)

    async def withdraw_consent(self, user_id: int, scope: int | None) -> Withdrawal:
        """Withdraw a member's consent in a scope, in all of them if it is None.

        What was collected and waits for review goes; a job that is learning by this consent ends,
        and the scope is asked for a clean retrain.
        """
        if scope is None:
            stood = bool(await self._storage.erasures.withdraw_consents(user_id))
        else:
            stood = await self._storage.consents.opt_out(scope, user_id)
        erased = await self._storage.examples.remove_pending_collected(user_id, scope)
        jobs = [job for job in await self._by_consent(user_id) if scope in (None, job.scope)]
        stopped = [job.id for job in jobs if not job.state.is_final]
        for job in jobs:
            if job.id in stopped:
                await self._training.discard(job)
        now = [one for job in jobs if (one := await self._storage.jobs.get(job.id))]
        ended = [job for job in now if job.id in stopped]
        for concern in await self._affected_scopes(ended, stopped):
            await self._prompt_clean_retrain(concern)
        return Withdrawal(stood, erased, await self._affected_scopes(now))

    async def _by_consent(self, user_id: int) -> list[TrainingJob]:
        """The jobs that have words of a member which were not handed over on purpose."""
        jobs = await self._storage.jobs.with_member(user_id)
        versions = [(await self._storage.jobs.sources(job.id)).get(user_id) for job in jobs]
        return [job for job, version in zip(jobs, versions, strict=True) if version is not None]

    async def checkpoints_trained_on(self, user_id: int, scope: int) -> tuple[str, ...]:
        """The names of the scope's checkpoints that learned words of a member."""
        jobs = [
            job for job in await self._storage.jobs.trained_on_member(user_id) if job.scope == scope
        ]
        return tuple(name for one in await self._affected_scopes(jobs) for name in one.checkpoints)

    async def _erase_training_data(self, user_id: int) -> list[AffectedScope]:
        async with self._lock:
            jobs = await self._storage.jobs.with_member(user_id)
            for job in jobs:
                await self._training.discard(job)
            stopped = [job.id for job in jobs if not job.state.is_final]
            found = await self._affected_scopes(
                await self._storage.jobs.with_member(user_id), stopped
            )
            for concern in found:
                await self._prompt_clean_retrain(concern)
            await self._storage.jobs.remove_sources_of_member(user_id)
            await asyncio.to_thread(self._erased_list.add, user_id)
            return found

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
        """What learned from these jobs' data, and what learned on from there."""
        learned = {job.checkpoint for job in jobs if job.checkpoint is not None}
        there = await asyncio.to_thread(self._training.checkpoints, scope)
        names = tuple(
            folder.name
            for folder, manifest in there
            if folder.name in learned or learned.intersection(manifest.parents)
        )
        active = await self._storage.model_choices.active(scope)
        made = await self._storage.jobs.with_checkpoint(scope)
        serving = [job.id for job in made if job.checkpoint == active and active in names]
        return AffectedScope(
            scope=scope,
            checkpoints=names,
            job_id=serving[-1] if serving else jobs[-1].id,
            stopped=any(job.id in stopped and job.checkpoint is None for job in jobs),
        )

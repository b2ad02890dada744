"""Which version of each source is current, and whether the replicas have it.

Knows how a replica comes by a model. Does not know replies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import replace

from cachetools import LRUCache

from core.cluster.connection import ClusterError
from core.cluster.parcels import Shipment, Shipments
from core.tasks import BackgroundTasks
from i18n.phrase import message_of
from model.cluster.messages import Loaded
from model.cluster.replicas import Replicas
from model.cluster.retry import UNANSWERED, ReplicaLost
from model.cluster.versions import Version, Versions
from model.convert.build import load_error_message
from model.errors import LoadFailed, ModelError, WorkerDied
from model.worker.messages import ModelInfo

log = logging.getLogger(__name__)

MAX_RECENT = 32
"""Versions that a new replica is given before it is asked for them."""


class CurrentModels:
    """The versions that replies are made with. A version becomes current once the replicas have
    loaded it; a reply that has begun goes on with its own."""

    def __init__(self, replicas: Replicas, tasks: BackgroundTasks, embedded: str) -> None:
        self._replicas = replicas
        self._tasks = tasks
        self._versions = Versions()
        self._shipments = Shipments()
        self._current = {embedded: self._versions.describe(embedded)}
        self._recent: LRUCache[str, Version] = LRUCache(MAX_RECENT)
        self._loads: dict[str, asyncio.Task[ModelInfo]] = {}
        self._known_replicas: set[str] = set()

    async def load(self, source: str) -> ModelInfo:
        """Load what a source holds now on all replicas, and make it current. Who asks for the same
        meanwhile waits for the same.

        Raises:
            LoadFailed, WorkerDied: the version before stays current.
        """
        if (load := self._loads.get(source)) is None:
            load = self._loads[source] = asyncio.ensure_future(self._load(source))
            load.add_done_callback(lambda _: self._loads.pop(source, None))
        return await asyncio.shield(load)

    async def _load(self, source: str) -> ModelInfo:
        version = await asyncio.to_thread(self._versions.describe, source)
        info = await self._supply(version)
        self._current[source] = self._recent[source] = version
        return replace(info, source=source)

    async def _supply(self, version: Version) -> ModelInfo:
        """Have all replicas hold a version in memory."""
        answers = await self._load_on_all(version)
        if missing := {digest for one in answers for digest in one.missing}:
            answers = await self._load_on_all(version, await self.ship(version, missing))
        for one in answers:
            if one.failure is not None:
                raise LoadFailed(one.failure)
        infos = [one.info for one in answers if one.info is not None]
        if not infos:
            raise WorkerDied(UNANSWERED)
        return infos[0]

    async def _load_on_all(
        self, version: Version, shipments: tuple[Shipment, ...] = ()
    ) -> list[Loaded]:
        """The answers of all replicas but those that are lost meanwhile."""
        while True:
            answers: list[Loaded] = await self._replicas.all("load", version.ref, shipments)
            if not any(one.is_loading for one in answers):
                self._known_replicas |= {one.replica for one in answers}
                return answers

    async def ship(self, version: Version, digests: Collection[str]) -> tuple[Shipment, ...]:
        """The parcels with these digests, in the object store. Raises LoadFailed."""
        try:
            return await asyncio.to_thread(self._ship, version, digests)
        except ClusterError as e:
            raise LoadFailed(message_of(e)) from e

    def _ship(self, version: Version, digests: Collection[str]) -> tuple[Shipment, ...]:
        found = []
        for one in digests:
            folder, parcel = version.parcels[one]
            try:
                found.append(self._shipments.ship(folder, parcel))
            except OSError as e:
                raise LoadFailed(load_error_message(str(folder), e)) from e
        return tuple(found)

    def known(self, source: str) -> Version | None:
        """The current version of a source that was loaded."""
        return self._current.get(source)

    async def version(self, source: str) -> Version:
        """The current version of a source, which is loaded if it never was. Raises: as `load`."""
        if source not in self._current:
            await self.load(source)
        return self._current[source]

    def meet(self, replica: str) -> None:
        """A replica has answered; a new one is given what is current."""
        if replica not in self._known_replicas:
            self._known_replicas.add(replica)
            self._tasks.spawn(self._supply_recent(), name="supply of a new replica")

    async def _supply_recent(self) -> None:
        for version in list(self._recent.values()):
            try:
                await self._supply(version)
            except (ModelError, ReplicaLost) as e:
                log.warning("a new replica lacks a model: %s", e)

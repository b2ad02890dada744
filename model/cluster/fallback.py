"""The embedded model of a worker on this machine, which answers while the cluster is away.

Knows the cluster's backend, and how to start a worker for as long as it is needed. Does not know
why the cluster is away.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from core.records import Message
from core.tasks import BackgroundTasks
from model.cluster.client import RayBackend
from model.errors import WorkerDied
from model.registry import embedded_name_of
from model.sampling import SamplingParams
from model.worker.client import WorkerClient
from model.worker.messages import (
    Finished,
    ModelInfo,
    Queued,
    Ready,
    Rendered,
    ReplicaLoad,
    TextDelta,
)

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 30.0
"""Seconds for a worker that was sent away to end."""
LOCAL_IDS = 1 << 40
"""Added to the request ids of the worker, so that none is one of the cluster's."""


class FallbackBackend:
    """A GenerationBackend: the cluster's, or a worker's while that is away. The worker is made by
    `make_worker`, and has the model `embedded`; other models are answered for by that.

    A reply that the cluster loses before it has begun is given by the worker too. While the cluster
    is away, `models` holds none but the worker's, so that people are told who stands in.
    """

    def __init__(
        self, cluster: RayBackend, make_worker: Callable[[], WorkerClient], embedded: str
    ) -> None:
        self._cluster = cluster
        self._make_worker = make_worker
        self._embedded = embedded
        self._worker: WorkerClient | None = None
        self._starts, self._ends = BackgroundTasks(), BackgroundTasks()
        self._restarts = 0

    async def start_with_backoff(self) -> None:
        """Connect to the cluster; the worker answers until then."""
        await self._cluster.start_with_backoff()

    async def stop(self) -> None:
        """Stop both, after replies in flight."""
        if self._worker is not None:
            await self._worker.stop()
        await self._cluster.stop()
        await self._starts.close()
        await self._ends.close(STOP_TIMEOUT_S)

    @property
    def is_available(self) -> bool:
        """Whether the cluster answers, as far as is known."""
        return self._cluster.is_available

    @property
    def ready(self) -> Ready | None:
        return self._cluster.ready or (self._worker.ready if self._worker else None)

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        if self.is_available:
            return self._cluster.models
        return self._worker.models if self._worker else {}

    @property
    def quarantined(self) -> Mapping[str, str]:
        return self._cluster.quarantined if self.is_available else {}

    @property
    def pid(self) -> int | None:
        if self.is_available or self._worker is None:
            return self._cluster.pid
        return self._worker.pid

    @property
    def restarts(self) -> int:
        return self._cluster.restarts + self._restarts

    @property
    def num_pending(self) -> int:
        return self._cluster.num_pending + (self._worker.num_pending if self._worker else 0)

    def _stand_in(self) -> WorkerClient:
        """The worker, which starts now if there is none; requests wait for that."""
        if self._worker is None:
            log.warning("the cluster is away; a worker on this machine answers meanwhile")
            self._worker = self._make_worker()
            self._starts.spawn(self._worker.start_with_backoff(), name="start of the stand-in")
        return self._worker

    def _dismiss(self) -> None:
        """End the worker once the cluster is there and nobody waits for the worker."""
        worker = self._worker
        if worker is not None and worker.ready is not None and not worker.num_pending:
            log.warning("the cluster is back")
            self._worker, self._restarts = None, self._restarts + worker.restarts
            self._ends.spawn(worker.stop(), name="end of the stand-in")

    async def replica_loads(self) -> tuple[ReplicaLoad, ...]:
        """What the cluster's replicas do; none while it is away."""
        return await self._cluster.replica_loads()

    async def load(self, source: str) -> ModelInfo:
        """On the cluster: the worker stands in with what it has."""
        return await self._cluster.load(source)

    async def generate(
        self,
        source: str,
        messages: Sequence[Message],
        params: SamplingParams,
        *,
        channel: int = 0,
        scope: int = 0,
    ) -> AsyncGenerator[Queued | TextDelta | Finished, None]:
        if self.is_available:
            self._dismiss()
            has_begun = False
            pieces = self._cluster.generate(source, messages, params, channel=channel, scope=scope)
            try:
                async with aclosing(pieces):
                    async for piece in pieces:
                        has_begun = has_begun or isinstance(piece, TextDelta)
                        yield piece
                    return
            except WorkerDied as e:
                if has_begun:
                    raise
                log.warning("the cluster did not answer: %s", e)
        pieces = self._stand_in().generate(
            self._instead_of(source), messages, params, channel=channel, scope=scope
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield replace(piece, request_id=piece.request_id + LOCAL_IDS)

    def _instead_of(self, source: str) -> str:
        return source if embedded_name_of(source) else self._embedded

    async def render(
        self, source: str, messages: Sequence[Message], max_new_tokens: int
    ) -> Rendered:
        if self.is_available:
            return await self._cluster.render(source, messages, max_new_tokens)
        stand_in = self._stand_in()
        return await stand_in.render(self._instead_of(source), messages, max_new_tokens)

    def abort(self, request_id: int) -> None:
        if request_id < LOCAL_IDS:
            self._cluster.abort(request_id)
        elif self._worker is not None:
            self._worker.abort(request_id - LOCAL_IDS)

    def prefetch(self, source: str, messages: Sequence[Message], channel: int) -> None:
        if self.is_available:
            self._cluster.prefetch(source, messages, channel)
        elif self._worker is not None:
            self._worker.prefetch(self._instead_of(source), messages, channel)

    def drop_caches(self) -> None:
        self._cluster.drop_caches()
        if self._worker is not None:
            self._worker.drop_caches()

    async def ping(self, timeout_s: float = 5.0) -> float:
        return await (self._cluster if self.is_available else self._stand_in()).ping(timeout_s)

"""Serve's request router, as `model.cluster.affinity` wants it: it runs in the gateway.

Serve's own (multiplexing) keeps a channel, too, but sends many new ones of the same moment to the
same replica, and each replica can hold few. What Serve knows of queues lags behind; the gateway is
the only one who asks, so that it can count.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cachetools import TTLCache
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from model.cluster.affinity import Homes

MAX_UNDER_WAY = 100_000
FORGET_S = 600.0
"""Seconds after which a request counts no more, should Serve not tell of its end."""


class ChannelRouter(RequestRouter):  # type: ignore[misc] # it has no types
    """Ranks the replicas by a request's session, and by what they have under way."""

    def initialize_state(self, *, room: int) -> None:
        """`room` is how many requests a replica answers at once."""
        self._homes = Homes(room)
        self._under_way: TTLCache[str, ReplicaID] = TTLCache(MAX_UNDER_WAY, FORGET_S)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """All of them, the first choice first."""
        counts = Counter(self._under_way.values())
        replicas = {one.replica_id.unique_id: one for one in candidate_replicas}
        loads = {name: counts[one.replica_id] for name, one in replicas.items()}
        if pending_request is None:
            return [[replicas[name]] for name in self._homes.rank("", loads)]
        asked = pending_request.metadata
        order = self._homes.rank(asked.session_id, loads, asked.internal_request_id)
        if order:
            self._begin(pending_request, replicas[order[0]].replica_id)
        return [[replicas[name]] for name in order]

    def _begin(self, request: PendingRequest, replica: ReplicaID) -> None:
        number = request.metadata.internal_request_id
        self._under_way[number] = replica
        request.future.add_done_callback(
            lambda chosen: self._under_way.pop(number, None) if chosen.cancelled() else None
        )

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """A replica has taken a request: it may be another than the first choice."""
        asked = pending_request.metadata
        self._homes.settle(asked.session_id, replica_id.unique_id)
        if asked.internal_request_id in self._under_way:
            self._under_way[asked.internal_request_id] = replica_id

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """A request has ended there, however."""
        if self._under_way.get(internal_request_id) == replica_id:
            del self._under_way[internal_request_id]

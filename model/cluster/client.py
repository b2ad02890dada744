"""The GenerationBackend of a cluster: a client of the gateway, which it restarts when it dies.

Replies, loads and stops mean the same as with a worker on this machine (`model.worker.client`),
from which all of that comes. Imports neither Ray nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from multiprocessing.connection import Connection

from core.cluster.connection import NO_RAY, is_installed
from model.cluster.options import GatewayOptions
from model.errors import LoadFailed
from model.registry import EMBEDDED_FOLDER
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import AskLoads, Ready, ReplicaLoad, ReplicaLoads
from model.worker.process import WorkerProcess
from model.worker.running_models import RunningModels

WAIT_S = 30.0
"""Seconds for which a request waits for a cluster that is away."""
START_TIMEOUT_S = 300.0
"""Seconds for the gateway to connect and for the first replica to run, which may have to build its
model first."""
MOST_BACKOFF_S = 5.0
"""Seconds between two looks whether a cluster that is away is back."""


class RayBackend(WorkerClient):
    """A GenerationBackend whose models run on a Ray cluster. It is used like a `WorkerClient`:
    `start_with_backoff()` in the background, then the protocol's methods, and `stop()` at the end.

    `options.address` is where the cluster is, `options.scale` how many replicas it runs.
    `settings` are those of each replica's worker; `embedded` is the source of an embedded model.
    Replicas stay when the bot stops, and are found by the next one, unless that has another
    version.

    `ready` is the handshake of a replica; its pid, and `pid`, are those of the gateway on this
    machine. `restarts` counts the gateway's. While the cluster is away, `is_available` is false,
    and requests wait for WAIT_S seconds before they raise WorkerDied.
    """

    def __init__(
        self,
        options: GatewayOptions,
        settings: WorkerSettings | None = None,
        *,
        embedded: str = str(EMBEDDED_FOLDER),
        start_s: float = START_TIMEOUT_S,
        wait_s: float = WAIT_S,
    ) -> None:
        super().__init__(
            settings,
            embedded=embedded,
            start_s=start_s,
            wait_s=wait_s,
            most_backoff_s=MOST_BACKOFF_S,
            entry=partial(_run_gateway, options),
        )
        self.options = options

    @property
    def is_available(self) -> bool:
        """Whether the cluster answers, as far as is known."""
        return self._is_ready.is_set()

    async def replica_loads(self) -> tuple[ReplicaLoad, ...]:
        """What each replica does and has done since the gateway runs; none while the cluster is
        away. Raises WorkerDied: the gateway ended meanwhile."""
        if not self.is_available:
            return ()
        return (await self._ask(AskLoads, ReplicaLoads)).loads

    async def start(self) -> Ready:
        """Connect, and wait for a replica. Raises LoadFailed: the sentence says why the cluster
        cannot be used. Raises WorkerDied: the gateway ended, or was not ready in time."""
        if not is_installed():
            raise LoadFailed(NO_RAY)
        return await super().start()

    def _blame(self, _dead: WorkerProcess) -> Mapping[str, str]:
        """No model: none runs in the gateway. The replicas blame theirs."""
        return {}


def _run_gateway(
    options: GatewayOptions,
    connection: Connection,
    running: RunningModels,
    settings: WorkerSettings,
    embedded: str,
) -> None:
    """The child's entry, which imports Ray there alone."""
    from model.cluster.gateway import run_gateway

    run_gateway(options, connection, running, settings, embedded)

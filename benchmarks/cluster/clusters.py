"""Real clusters on this machine: Ray's processes for a head without processors, and for nodes that
have as many as one likes to say. Starts only what it ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster.asking import ask
from core.cluster.connection import NODE_SETTINGS
from core.subprocesses import PROJECT_ROOT
from model.cluster.client import RayBackend
from model.cluster.options import GatewayOptions, Scale
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings

OBJECT_STORE_BYTES = 200_000_000
TOKEN = secrets.token_hex(32)
"""One for all clusters: Ray reads it once in a process."""
LEAN_HEAD = {
    "num_cpus": 0,
    "include_dashboard": False,
    "include_log_monitor": False,
    "no_monitor": True,
    "_system_config": {"prestart_worker_first_driver": False, "enable_worker_prestart": False},
}
"""A head that only coordinates; its cluster has no processes for work that never comes."""
START_TIMEOUT_S = 240.0
"""Seconds for all replicas to run: here they share a machine."""


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A backend on a cluster of its own; `nodes` are those that have processors."""

    backend: RayBackend
    nodes: Sequence[Any]
    cluster: Any

    def memory_mb(self) -> dict[str, int]:
        """Of the gateway, of a replica without its worker, and of all else of Ray on this machine
        (two nodes and the controller of Serve); what they share with each other is not counted."""
        found: dict[str, list[float]] = {"gateway": [], "replica": [], "rest": []}
        for one in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                name = " ".join(one.cmdline())
                if one.pid == self.backend.pid:
                    kind = "gateway"
                elif "ray::ServeReplica" in name:
                    kind = "replica"
                elif "multiprocessing" in name:  # a worker
                    continue
                else:
                    kind = "rest"
                found[kind].append(one.memory_full_info().uss / 1e6)
        return {kind: round(sum(sizes)) for kind, sizes in found.items()}

    def kill_node(self, node: Any) -> None:
        """End all its processes at once, as when a machine loses its power."""
        started = (one.process.pid for kind in node.all_processes.values() for one in kind)
        victims = []
        for pid in started:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                victims += [process, *process.children(recursive=True)]
        for one in victims:
            with suppress(psutil.Error):
                one.kill()


@asynccontextmanager
async def local_cluster(
    replicas: int,
    settings: WorkerSettings,
    worker: Callable[..., Any] | None = None,
    *,
    nodes: int = 1,
) -> AsyncIterator[LocalCluster]:
    """So many replicas on so many nodes, all of them ready; it asks for a token, as a real one
    should."""
    folder = Path(tempfile.mkdtemp(prefix="g2b-"))  # short: Ray's sockets lie in it
    os.environ |= {
        **NODE_SETTINGS,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "PYTHONPATH": str(PROJECT_ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_TMPDIR": str(folder),  # the address of this one is nobody else's
    }
    from ray.cluster_utils import Cluster  # it looks at the token's mode when it is imported

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **LEAN_HEAD,
            "object_store_memory": OBJECT_STORE_BYTES,
            "temp_dir": str(folder / "ray"),
        },
    )
    try:
        started = [
            cluster.add_node(num_cpus=replicas // nodes, object_store_memory=OBJECT_STORE_BYTES)
            for _ in range(nodes)
        ]
        options = GatewayOptions(
            cluster.address,
            Scale(fewest=replicas, most=replicas),
            cache=str(folder / "cache"),
            worker=worker,
        )
        async with RayBackend(options, settings, embedded=str(EMBEDDED_FOLDER)) as backend:
            await _meet_all(backend, replicas)
            yield LocalCluster(backend, started, cluster)
    finally:
        await asyncio.to_thread(cluster.shutdown)
        shutil.rmtree(folder, ignore_errors=True)


async def _meet_all(backend: RayBackend, replicas: int) -> None:
    """Ask in new channels until each replica has answered."""
    channels = itertools.count(1 << 20)
    params = SamplingParams(max_new_tokens=1, seed=0)
    async with asyncio.timeout(START_TIMEOUT_S):
        while len(await backend.replica_loads()) < replicas:
            await asyncio.gather(
                *(ask(backend, str(EMBEDDED_FOLDER), next(channels), params) for _ in range(4))
            )

"""A real Ray cluster on this machine: a head without processors, and nodes that can be lost.

Each node has one processor, so one replica. Everything of it ends with the fixture, and no other
cluster on this machine is touched.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster.clusters import LEAN_HEAD
from core.cluster.connection import NODE_SETTINGS
from core.records import Message, Role
from model.cluster.client import RayBackend
from model.cluster.options import GIVE_UP_S, GatewayOptions, Scale
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from tests.builds import BUILT, built
from tests.ray_nodes import Nodes

OBJECT_STORE_BYTES = 100 << 20
ONE_TOKEN = SamplingParams(max_new_tokens=1, seed=1)
LIMIT_S = 120.0
"""Seconds for the cluster to become what a test waits for."""


class RayCluster:
    """`nodes` are those that can run a replica."""

    def __init__(self, nodes: int) -> None:
        from ray.cluster_utils import Cluster

        self.temp = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets want a short path
        (self.temp / "ray").mkdir()
        os.environ["RAY_TMPDIR"] = str(self.temp)  # the address of this one is nobody else's
        os.environ |= NODE_SETTINGS
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args=dict(
                LEAN_HEAD,
                object_store_memory=OBJECT_STORE_BYTES,
                temp_dir=str(self.temp / "ray"),
            ),
        )
        built(EMBEDDED_FOLDER)
        shutil.copytree(BUILT, self.cache / "built")
        self.nodes: list[Any] = [self.add_node() for _ in range(nodes)]
        self._frozen: list[int] = []

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def cache(self) -> Path:
        return self.temp / "cache"

    def add_node(self) -> Any:
        """Add a node with one processor."""
        return self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)

    def replicas(self, node: Any) -> list[psutil.Process]:
        """The processes of the replicas on a node."""
        with suppress(psutil.Error):
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            return [
                one
                for one in raylet.children(recursive=True)
                if "ray::ServeReplica" in " ".join(one.cmdline()[:1])
            ]
        return []

    def kill(self, node: Any) -> None:
        """The machine loses its power."""
        victims = self._processes(node)
        for one in victims:
            with suppress(psutil.Error):
                one.kill()
        self._cluster.remove_node(node, allow_graceful=False)

    def freeze(self, node: Any) -> None:
        """The machine hangs: its connections stay open, and nothing comes any more."""
        for one in self._processes(node):
            with suppress(psutil.Error):
                one.suspend()
                self._frozen.append(one.pid)

    def stop_head(self) -> None:
        """The head's machine loses its power."""
        for one in self._cluster.head_node.all_processes.values():
            for process in one:
                process.process.kill()

    def _processes(self, node: Any) -> list[psutil.Process]:
        found = []
        for kind in node.all_processes.values():
            for one in kind:
                with suppress(psutil.Error):
                    process = psutil.Process(one.process.pid)
                    found += [process, *process.children(recursive=True)]
        return found

    def close(self) -> None:
        for pid in self._frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._cluster.shutdown()
        os.environ.pop("RAY_TMPDIR", None)
        shutil.rmtree(self.temp, ignore_errors=True)


def running_cluster(nodes: int) -> Iterator[RayCluster]:
    """For a fixture."""
    cluster = RayCluster(nodes)
    try:
        yield cluster
    finally:
        cluster.close()


@asynccontextmanager
async def connected(
    cluster: RayCluster | Nodes,
    scale: Scale | None = None,
    *,
    fewest: int = 1,
    worker: Callable[..., Any] | None = None,
    silence_s: float = 8.0,
    gone_s: float = 20.0,
    give_up_s: float = GIVE_UP_S,
    **settings: Any,
) -> AsyncIterator[RayBackend]:
    """A backend with replicas on the cluster, that notices losses early."""
    options = GatewayOptions(
        cluster.address,
        scale or Scale(fewest, 2, drain_s=10.0, health_period_s=2.0, health_timeout_s=10.0),
        cache=str(cluster.cache),
        silence_s=silence_s,
        gone_s=gone_s,
        give_up_s=give_up_s,
        worker=worker,
    )
    given = {"threads": 1, "drain_s": 1.0, "log_level": "INFO"} | settings
    backend = RayBackend(options, WorkerSettings(**given), wait_s=5.0)
    try:
        await backend.start()
        yield backend
    finally:
        await backend.stop()


async def until(true: Callable[[], object], what: str) -> None:
    """Wait until something is true of processes that tell nobody when it is; `true` may be a
    coroutine."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found = true()
        if (await found) if inspect.isawaitable(found) else found:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


async def until_all_answer(backend: RayBackend, count: int) -> None:
    """Wait until so many replicas take requests, beside those that were lost."""

    async def ask() -> None:
        stream = backend.generate(str(EMBEDDED_FOLDER), [Message(Role.USER, "hello")], ONE_TOKEN)
        _ = [one async for one in stream]

    async with asyncio.timeout(LIMIT_S):
        while True:
            before = {one.replica: one.replies for one in await backend.replica_loads()}
            await asyncio.gather(*(ask() for _ in range(3 * count)))
            now = await backend.replica_loads()
            if sum(one.replies > before.get(one.replica, 0) for one in now) >= count:
                return

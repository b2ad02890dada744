"""Nodes of a real Ray cluster on this machine, each a group of processes of its own, so that one
can be killed as a machine is lost. Imports no Ray: the processes under test do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from core.cluster.connection import NODE_SETTINGS
from tests.ports import free_port

NODE = """
import json, sys, time
from ray._private.node import Node
from ray._private.parameter import RayParams

given = json.loads(sys.argv[1])
is_head = "gcs_address" not in given
node = Node(RayParams(**given), head=is_head, shutdown_at_exit=False)
print("started", flush=True)
while not node.dead_processes():
    time.sleep(0.2)
    if is_head:
        try:
            known = node.get_gcs_client().get_all_node_info().values()
        except Exception:  # it is busy, or ends: Ray raises what its many parts do
            continue
        with open(sys.argv[2], "w") as file:
            file.write(str(sum(one.state == 0 for one in known)))
node.kill_all_processes(check_alive=False, allow_graceful=False)
"""
"""What `ray start --block` does, without the rest of Ray's command line, whose import takes longer
than all else of a node's start. The head keeps how many nodes it takes for alive in a file."""
STORE_BYTES = 200_000_000
END_S = 120.0
"""Seconds for a node to end that has lost its head."""
TEST_SETTINGS = {
    **NODE_SETTINGS,
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "1",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_raylet_liveness_self_check_interval_ms": "1000",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""On a busy machine a node is slow, not lost; a killed one is noticed by its closed port. Nodes
without a head end after 5 s, and those whose head is another one after 1 s, neither after a minute.
None starts processes for work that never comes."""


class Nodes:
    """A head at `address`, and further nodes; `cache` is where they all keep their files."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "node"
        self.address = f"127.0.0.1:{free_port()}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._cpus: list[int] = []
        self._frozen: list[psutil.Process] = []
        self._temps = [tempfile.mkdtemp(prefix="ray-")]  # a socket's path must be short
        self._alive = str(root / "alive")
        Path(self._alive).touch()
        token = root / "token"
        token.write_text(os.urandom(32).hex())
        token.chmod(0o600)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    @property
    def head(self) -> subprocess.Popen[bytes]:
        return self._nodes[0]

    def add(self, cpus: int, **options: Any) -> subprocess.Popen[bytes]:
        """Start a node, and wait until it is part of the cluster; the first one is the head.
        `options` are further ones of Ray's `RayParams`."""
        self._nodes.append(self._start(cpus, options, first=not self._nodes))
        self._cpus.append(cpus)
        return self._nodes[-1]

    def restart(self) -> None:
        """Another head at the same address, in place of one that has ended, on another machine; the
        nodes of that end by themselves, and are started again."""
        self._temps.append(tempfile.mkdtemp(prefix="ray-"))
        self._nodes[0] = self._start(0, {}, first=True)
        for place, (node, cpus) in enumerate(zip(self._nodes, self._cpus, strict=True)):
            if place:
                node.wait(END_S)
                self._nodes[place] = self._start(cpus, {}, first=False)

    def _start(
        self, cpus: int, options: Mapping[str, Any], *, first: bool
    ) -> subprocess.Popen[bytes]:
        port = int(self.address.rpartition(":")[2])
        where = (
            {"gcs_server_port": port, "temp_dir": self._temps[-1]}
            if first
            else {"gcs_address": self.address}
        )
        settings = {
            "num_cpus": cpus,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "include_log_monitor": False,
            "no_monitor": True,
            "node_manager_port": 0,
            "dashboard_agent_listen_port": 0,
            "min_worker_port": 0,
            "max_worker_port": 0,
        }
        node = subprocess.Popen(
            [sys.executable, "-c", NODE, json.dumps({**where, **settings, **options}), self._alive],
            env=os.environ | TEST_SETTINGS | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _await_words(node, b"started")
        except BaseException:
            self.kill(node)
            raise
        return node

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """All processes of a node at once, as when its machine loses power."""
        family = _family(node)
        for signalled in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, nobody tells anybody
            _send(signalled, family)
        node.wait()

    def freeze(self, *nodes: subprocess.Popen[bytes]) -> None:
        """The network to these nodes, or to all, is cut: connections stay open, and nothing comes
        any more."""
        self._frozen = [one for node in nodes or self._nodes for one in _family(node)]
        _send(signal.SIGSTOP, self._frozen)

    def thaw(self) -> None:
        """The network is back."""
        _send(signal.SIGCONT, self._frozen)

    def kill_all_but_head(self) -> None:
        """Until the head has noticed, it would give them work."""
        for node in self._nodes[1:]:
            self.kill(node)
        del self._nodes[1:], self._cpus[1:]
        deadline = time.monotonic() + END_S
        while self.head.poll() is None and Path(self._alive).read_text() != "1":
            assert time.monotonic() < deadline, "the head takes a killed node for alive"
            time.sleep(0.1)

    @contextmanager
    def joined(self, cache: Path, *cpus: int) -> Iterator[Nodes]:
        """Until the end of the block there are more nodes, one for each number of processors and
        those that are added meanwhile, and children of this process may join them."""
        self.cache = cache
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            try:
                for count in cpus:
                    self.add(count)
                yield self
            finally:
                self.kill_all_but_head()

    def close(self) -> None:
        for node in reversed(self._nodes):
            self.kill(node)
        for one in self._temps:
            shutil.rmtree(one, ignore_errors=True)


def _family(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of a node, itself at the end."""
    if node.poll() is not None:
        return []
    process = psutil.Process(node.pid)
    return [*process.children(recursive=True), process]


def _send(signalled: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signalled)


def _await_words(node: subprocess.Popen[bytes], words: bytes) -> None:
    """Read what a node says up to these words, and then let it talk on."""
    assert node.stdout is not None
    said = []
    for line in node.stdout:
        said.append(line)
        if words in line:
            threading.Thread(target=_drain, args=(node.stdout,), daemon=True).start()
            return
    raise RuntimeError(b"".join(said).decode(errors="replace"))


def _drain(output: IO[bytes]) -> None:
    with output:
        output.read()


@contextmanager
def running_nodes(root: Path, *cpus: int) -> Iterator[Nodes]:
    """A cluster with a node for each number of processors, the head first."""
    with ExitStack() as stack:
        nodes = Nodes(root)
        stack.callback(nodes.close)
        for count in cpus:
            nodes.add(count)
        yield nodes

"""Nodes of a real Ray cluster on this machine, each a group of processes of its own, so that one
can be killed as a machine is lost. Imports no Ray: the processes under test do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

STORE_BYTES = 200_000_000
PATIENT = {
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "60000",
}
"""On a busy machine a node is slow, not lost; a killed one is noticed by its closed port."""


class Nodes:
    """A head at `address`, and further nodes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = f"127.0.0.1:{free_port()}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._temp = tempfile.mkdtemp(prefix="ray-")  # a socket's path must be short
        token = root / "token"
        token.write_text(os.urandom(32).hex())
        token.chmod(0o600)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    def add(self, cpus: int, *options: str) -> subprocess.Popen[bytes]:
        """Start a node, and wait until it is part of the cluster; the first one is the head."""
        port = self.address.rpartition(":")[2]
        first = not self._nodes
        where = (
            (
                *("--head", f"--port={port}", f"--temp-dir={self._temp}", "--no-monitor"),
                *("--include-dashboard=0", f"--ray-client-server-port={free_port()}"),
            )
            if first
            else (f"--address={self.address}",)
        )
        node = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--block"),
                *("--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", "--disable-usage-stats"),
                *(f"--object-store-memory={STORE_BYTES}", "--include-log-monitor=0"),
                *("--min-worker-port=0", "--max-worker-port=0", *options),
            ],
            env=os.environ | PATIENT | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._nodes.append(node)
        _await_words(node, b"Ray runtime started")
        return node

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """All processes of a node at once, as when its machine loses power."""
        ours = [psutil.Process(node.pid)] if node.poll() is None else []
        family = [one for process in ours for one in (*process.children(recursive=True), process)]
        for signalled in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, nobody tells anybody
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signalled)
        node.wait()

    def close(self) -> None:
        for node in reversed(self._nodes):
            self.kill(node)
        shutil.rmtree(self._temp, ignore_errors=True)


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_nodes(root: Path, *cpus: int) -> Iterator[Nodes]:
    """A cluster with a node for each number of processors, the head first."""
    with ExitStack() as stack:
        nodes = Nodes(root)
        stack.callback(nodes.close)
        for count in cpus:
            nodes.add(count)
        yield nodes

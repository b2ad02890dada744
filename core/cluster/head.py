"""Starts a cluster of this machine alone: Ray's head process, guarded by a token, until it is told
to end. For trying; a real cluster is started by its own tools (docs/cluster.md)."""

from __future__ import annotations

import os
import re
import secrets
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.cluster.connection import NODE_SETTINGS, ClusterError, has_token, token_file
from core.cluster.room import look
from core.subprocesses import child_environment, child_process
from i18n.phrase import phrase

OBJECT_STORE_BYTES = 200 << 20
"""For models and jobs on their way; Ray would take a third of the memory."""
GRACE_S = 20.0
"""Seconds that Ray's processes get to end."""
STARTED = re.compile(r"ray start --address='([^']+)'")
"""The line in which Ray says where its head listens; other programs rely on it too."""


def ensure_token() -> None:
    """Make a token, unless there is one: without it everybody who reaches the head's port could
    run programs here."""
    if has_token():
        return
    file = token_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
        new.write(secrets.token_hex(32))


@asynccontextmanager
async def running_head(cpus: int, port: int) -> AsyncIterator[tuple[str, Process]]:
    """Ray's head with so many CPUs for models and training, until the end of the block: its
    address, and its process, which ends by itself only if something is wrong.

    Raises:
        ClusterError: it does not start.
    """
    ensure_token()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *(f"--port={port}", f"--num-cpus={cpus}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
        *("--include-dashboard=false", "--disable-usage-stats"),
    ]
    environment = child_environment() | {
        **NODE_SETTINGS,
        "RAY_AUTH_MODE": "token",
        "RAY_raylet_start_wait_time_s": "120",  # a busy machine is no broken one
    }
    async with child_process(
        command, grace_s=GRACE_S, stdout=PIPE, stderr=STDOUT, env=environment
    ) as process:
        address = await _address(process)
        await look(address)  # its node comes up a little later
        yield address, process


async def _address(process: Process) -> str:
    """What the head says of where it listens."""
    assert process.stdout is not None
    last = ""
    async for line in process.stdout:
        text = line.decode(errors="replace").strip()
        if found := STARTED.search(text):
            return found[1]
        last = text or last
    raise ClusterError(phrase("The cluster does not start. Ray says: {why}", why=last))

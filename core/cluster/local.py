"""A cluster of one machine, for RAY_ADDRESS=local: a child process that starts it and ends with its
stdin, so that nothing of it outlives the bot.

`python -m core.cluster.local` writes one line, the address of its head, or a sentence.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

from core.cluster.connection import (
    LOCAL,
    NO_RAY,
    NODE_SETTINGS,
    ClusterError,
    connect,
    disconnect,
    is_installed,
)
from core.subprocesses import child_process, own_stdout
from i18n.phrase import deserialize_phrase, message_of, phrase, serialize_phrase

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0
OBJECT_STORE_BYTES = 512 << 20
"""Models and jobs pass through it, in pieces."""


@asynccontextmanager
async def running_cluster(address: str) -> AsyncIterator[str]:
    """The address for `connect`: for `local` that of a cluster that runs until the end of the
    block, otherwise the given one.

    Raises:
        ClusterError: the cluster cannot be started; the sentence says why.
    """
    if address != LOCAL:
        yield address
        return
    if not is_installed():
        raise ClusterError(NO_RAY)
    command = [sys.executable, "-m", "core.cluster.local"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    async with child_process(command, grace_s=STOP_TIMEOUT_S, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await child.stdout.readline()
        except TimeoutError as e:
            raise ClusterError(phrase("The Ray cluster did not start in time.")) from e
        told = json.loads(line or '{"error": ""}')
        if "error" in told:
            unknown = phrase("The Ray cluster did not start; the log says why.")
            raise ClusterError(deserialize_phrase(told["error"]) if told["error"] else unknown)
        yield told["address"]
        child.stdin.close()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await child.wait()


def main() -> None:
    """Start a cluster, tell its address, and end it with stdin."""
    out = own_stdout()
    os.environ |= NODE_SETTINGS
    try:
        cluster = connect(LOCAL, object_store_memory=OBJECT_STORE_BYTES)
    except ClusterError as e:
        _tell(out, {"error": serialize_phrase(message_of(e))})
        return
    _tell(out, {"address": cluster.address})
    while os.read(0, 1):
        pass
    disconnect()


def _tell(out: TextIO, values: dict[str, str]) -> None:
    print(json.dumps(values), file=out)


if __name__ == "__main__":
    main()

"""What a cluster consists of: its nodes, and what is free on them.

Looked at in a child process (`python -m core.cluster.room ADDRESS`), since Ray may end a process
that is connected to it. Knows nothing of models.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from asyncio.subprocess import PIPE
from dataclasses import asdict, dataclass
from typing import Any

from core.cluster.connection import NO_ANSWER, ClusterError, connect, disconnect
from core.limits import end_with_parent
from core.subprocesses import child_process, own_stdout
from i18n.phrase import deserialize_phrase, message_of, serialize_phrase

logger = logging.getLogger(__name__)

TIMEOUT_S = 60.0
"""Ray itself would try for minutes."""
HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head's node."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, or a container; `memory_gb` is what Ray hands out."""

    address: str
    cpus: float
    gpus: float
    memory_gb: float
    is_head: bool


@dataclass(frozen=True, slots=True)
class Room:
    """Ray's release, the nodes that are alive, and what of them nobody uses now."""

    ray: str
    nodes: tuple[Node, ...]
    free_cpus: float
    free_gpus: float

    @property
    def cpus(self) -> float:
        """Those that Ray may hand out, on all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)


async def look(address: str) -> Room:
    """The cluster at an address, as `RAY_ADDRESS` has it. Takes some seconds.

    Raises:
        ClusterError: it cannot be used; the sentence says why.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await _ask(address) or await _ask(address)
    except TimeoutError:
        answer = b""
    if not answer:
        raise ClusterError(NO_ANSWER)
    found = json.loads(answer)
    if (reason := found.get("error")) is not None:
        raise ClusterError(deserialize_phrase(reason))
    return Room(**found | {"nodes": tuple(Node(**one) for one in found["nodes"])})


async def _ask(address: str) -> bytes:
    """What a child found, as JSON; empty if Ray ended it, as it may where a node only starts."""
    command = (sys.executable, "-m", "core.cluster.room", address)
    async with child_process(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        answer, errors = await asyncio.gather(child.stdout.read(), child.stderr.read())
    if not answer:
        logger.warning("Ray ended a look at the cluster: %s", errors.decode(errors="replace"))
    return answer


def main() -> None:
    """Print what is at the address in `sys.argv`, as JSON. Ends with stdin."""
    end_with_parent()
    out = own_stdout()
    try:
        connect(sys.argv[1])
    except ClusterError as e:
        answer: dict[str, Any] = {"error": serialize_phrase(message_of(e))}
    else:
        answer = asdict(_look())
        disconnect()
    print(json.dumps(answer), file=out)


def _look() -> Room:
    import ray

    free = ray.available_resources()
    return Room(
        ray.__version__,
        tuple(_node(one) for one in ray.nodes() if one["Alive"]),
        free.get("CPU", 0.0),
        free.get("GPU", 0.0),
    )


def _node(found: dict[str, Any]) -> Node:
    resources = found["Resources"]
    return Node(
        found["NodeManagerAddress"],
        resources.get("CPU", 0.0),
        resources.get("GPU", 0.0),
        round(resources.get("memory", 0.0) / (1 << 30), 1),
        HEAD in resources,
    )


if __name__ == "__main__":
    main()

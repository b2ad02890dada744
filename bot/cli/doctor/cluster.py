"""Check of the cluster in RAY_ADDRESS: whether it can be joined, its room, a reply end to end."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from bot.app import DRAIN_TIMEOUT_S
from bot.cli.doctor.worker import answered, short_reply
from bot.cluster import replica_scale
from bot.ops.checks.check import Finding, refer_to
from bot.settings import Settings, worker_settings
from core.cluster.connection import ClusterError
from core.cluster.local import running_cluster
from core.cluster.room import Room, look
from i18n.phrase import message_of, phrase, phrases
from model.cluster.client import RayBackend
from model.cluster.options import GatewayOptions
from model.errors import ModelError
from model.registry import embedded_option

CLUSTER, ROOM, REPLY = NAMES = (
    phrase("cluster"),
    phrase("room in it"),
    phrase("reply from it"),
)
PAGE = phrase("docs/cluster.md says how a cluster is started and joined.")


async def check_cluster(settings: Settings, address: str) -> list[Finding]:
    """Join it in a child, and have a replica answer; one is started if none runs."""
    try:
        room = await look(address)
    except ClusterError as e:
        unknown = phrase("It is unknown.")
        others = [Finding(name, unknown, refer_to(CLUSTER)) for name in (ROOM, REPLY)]
        return [Finding(CLUSTER, message_of(e), PAGE), *others]
    joined = phrase(
        "Ray {version}, {nodes}.",
        version=room.ray,
        nodes=phrases("{count} node", "{count} nodes", len(room.nodes)),
    )
    return [Finding(CLUSTER, joined), _room(settings, room), await _reply(settings, address)]


def _room(settings: Settings, room: Room) -> Finding:
    wanted = settings.cluster_replicas
    there = phrase(
        "{cpus:g} CPU ({free:g} free) and {gpus:g} GPU, for {least} to {most} replicas.",
        cpus=room.cpus,
        free=room.free_cpus,
        gpus=room.gpus,
        least=wanted.least,
        most=wanted.most,
    )
    if room.cpus >= wanted.least * replica_scale(settings).cpus:
        return Finding(ROOM, there)
    advice = phrase(
        "A replica takes {cpus:g} CPU: start more nodes, or ask for fewer in CLUSTER_REPLICAS.",
        cpus=replica_scale(settings).cpus,
    )
    return Finding(ROOM, there, advice)


async def _reply(settings: Settings, address: str) -> Finding:
    """A reply from end to end: by a replica that runs, or else one that is started for it."""
    model = embedded_option(settings.language)
    worker = worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level=settings.log_level)
    try:
        async with AsyncExitStack() as stack:
            joined = await stack.enter_async_context(running_cluster(address))
            options = GatewayOptions(joined, replica_scale(settings), keeps_running=True)
            backend = RayBackend(options, worker, embedded=model.source)
            await stack.enter_async_context(backend)
            began = time.perf_counter()
            reply = await short_reply(backend, model, settings)
            seconds = time.perf_counter() - began
    except (ClusterError, ModelError) as e:
        return Finding(REPLY, message_of(e), PAGE)
    return Finding(REPLY, answered(model, reply, seconds))

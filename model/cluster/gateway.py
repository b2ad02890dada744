"""The gateway: a child process of the bot that is connected to the cluster.

It takes the commands of a worker from a pipe and sends back its events, but has replicas execute
them.

A process of its own, since Ray may end the process that it runs in, and since Ray's threads would
take turns with the bot's event loop. It ends when the cluster is gone; the bot starts another one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection

from core.cluster.connection import LOCAL, ClusterError, connect, disconnect
from core.logging import configure_logging
from core.subprocesses import SECRET_VARIABLES
from core.tasks import BackgroundTasks
from i18n.phrase import message_of
from model.cluster.application import ensure_running, handle, replica_options
from model.cluster.commands import Commands, failure_message
from model.cluster.current_models import CurrentModels
from model.cluster.messages import ReplicaFacts
from model.cluster.options import GatewayOptions
from model.cluster.replicas import Replicas
from model.registry import embedded_name_of
from model.settings import WorkerSettings
from model.worker.messages import Command, Failed, Ready, Shutdown, WorkerEvent
from model.worker.running_models import RunningModels

log = logging.getLogger(__name__)

DEPLOY_TIMEOUT_S = 240.0
"""Seconds for the first replica to run."""
CHECK_PERIOD_S = 3.0
"""Seconds between two questions whether the cluster is there."""
LEAVE_TIMEOUT_S = 5.0
"""Seconds for Ray to let go of the cluster."""


def run_gateway(
    options: GatewayOptions,
    connection: Connection,
    _running: RunningModels,
    settings: WorkerSettings,
    embedded: str,
) -> None:
    """The child's entry."""
    secrets = [os.environ.pop(name, "").strip() for name in sorted(SECRET_VARIABLES)]
    configure_logging(settings.log_level, settings.log_format, secrets)
    outbox = Outbox(connection)
    status = 1
    try:
        asyncio.run(_run(options, connection, outbox, settings, embedded))
        status = 0
    except Exception:
        log.critical("the gateway failed", exc_info=True)
    finally:
        outbox.close()
        _leave(options.address)
        os._exit(status)  # Ray's threads may wait for a cluster that is gone


def _leave(address: str) -> None:
    """Let go of the cluster, unless that takes too long."""
    leaving = threading.Thread(target=disconnect, daemon=True)
    leaving.start()
    leaving.join(LEAVE_TIMEOUT_S if address != LOCAL else None)


class Outbox:
    """Sends events by a thread, so that a bot that reads slowly does not stop the loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._events: queue.SimpleQueue[WorkerEvent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def put(self, event: WorkerEvent) -> None:
        """Send an event; returns at once."""
        self._events.put(event)

    def close(self) -> None:
        """Send what is left."""
        self._events.put(None)
        self._thread.join(2.0)

    def _send(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                self._connection.send((event,))
            except OSError:  # the bot is gone
                return


async def _run(
    options: GatewayOptions,
    connection: Connection,
    outbox: Outbox,
    settings: WorkerSettings,
    embedded: str,
) -> None:
    commands: asyncio.Queue[Command] = asyncio.Queue()
    _read_commands(connection, commands)
    try:
        facts = await _join(options, settings, embedded)
    except ClusterError as e:
        outbox.put(Failed(0, message_of(e), during_load=True))
        return
    except Exception as e:  # Ray raises what its many parts do
        log.exception("the cluster cannot be used")
        outbox.put(Failed(0, failure_message(e), during_load=True))
        return
    replicas = Replicas(handle(), silence_s=options.silence_s)
    async with BackgroundTasks() as tasks:
        models = CurrentModels(replicas, tasks, embedded)
        models.meet(facts.replica)
        executor = Commands(outbox.put, replicas, models, tasks, options.give_up_s)
        info = replace(facts.model, source=embedded)
        outbox.put(Ready(os.getpid(), facts.device, facts.training_precision, info))
        tasks.spawn(_watch(replicas, options.gone_s), name="watch of the cluster")
        while not isinstance(command := await commands.get(), Shutdown):
            executor.begin(command)
        await executor.drain(command.drain_s)


async def _join(options: GatewayOptions, settings: WorkerSettings, embedded: str) -> ReplicaFacts:
    """Connect, and have replicas run. Raises ClusterError."""
    name = embedded_name_of(embedded)
    assert name is not None  # the bot gives the one of its language
    wanted = replica_options(settings, options.scale, embedded=name, cache=options.cache)
    wanted = replace(wanted, worker=options.worker)
    await asyncio.to_thread(connect, options.address)
    return await asyncio.to_thread(
        ensure_running,
        wanted,
        options.scale,
        DEPLOY_TIMEOUT_S,
        keeps_running=options.keeps_running,
    )


async def _watch(replicas: Replicas, gone_s: float) -> None:
    """End this process once nothing of the cluster gives a sign of life."""
    while time.monotonic() - replicas.heard_at < gone_s:
        await asyncio.sleep(CHECK_PERIOD_S)
        try:
            await replicas.one("check_health")
        except Exception as e:  # whatever it is, the watch goes on
            log.warning("the cluster does not answer: %s", e)
    log.error("the cluster is gone")
    os._exit(1)


def _read_commands(connection: Connection, commands: asyncio.Queue[Command]) -> None:
    """Put the commands into the queue, by a thread; at the pipe's end the bot is gone."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            while True:
                loop.call_soon_threadsafe(commands.put_nowait, connection.recv())
        except (EOFError, OSError, RuntimeError):  # the last: the loop is closed
            if not loop.is_closed():
                loop.call_soon_threadsafe(commands.put_nowait, Shutdown(0))

    threading.Thread(target=read, daemon=True).start()

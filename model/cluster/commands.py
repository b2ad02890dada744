"""The commands of the bot, executed by replicas.

Knows commands, events, and that a lost reply is made again. Does not know the process or the pipe.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

from core.cluster.parcels import Shipment
from core.tasks import BackgroundTasks
from i18n.phrase import Phrase, message_of, phrase
from model.cluster.current_models import CurrentModels
from model.cluster.loads import Loads, Tally
from model.cluster.messages import Began, Crashed, NotHere, ReplicaEvent, ReplyRequest
from model.cluster.options import GIVE_UP_S
from model.cluster.replicas import Replicas
from model.cluster.retry import UNANSWERED, ReplicaLost, unbroken
from model.cluster.versions import Version
from model.errors import GenerationFailed, LoadFailed, ModelError, WorkerDied
from model.sampling import FinishReason
from model.worker.messages import (
    Abort,
    AskLoads,
    Command,
    DropCaches,
    Failed,
    Finished,
    Generate,
    LoadModel,
    ModelLoaded,
    Ping,
    Pong,
    Prefetch,
    Render,
    Rendered,
    ReplicaLoads,
    TextDelta,
    WorkerEvent,
)

log = logging.getLogger(__name__)

ALL_TIMEOUT_S = 5.0
"""Seconds for all replicas to be told something."""
ABORT_TIMEOUT_S = 3.0
"""Seconds for a replica to end a reply that was stopped."""
RENDER_TIMEOUT_S = 60.0
"""Seconds for a replica to show a prompt, for which it may have to load the model."""
MAX_SUPPLIES = 3
"""How often a replica is asked for one reply, as it may say that it lacks the model."""
NOT_SUPPLIED = phrase("The model did not reach a machine of the cluster. Please ask again.")

Asked = LoadModel | Generate | Render | Ping


@dataclass(slots=True)
class _LiveReply:
    """A reply under way. `key` names its attempt for the replicas; `text` was sent to the bot."""

    command: Generate
    version: Version
    epoch: int
    key: str = ""
    text: str = ""
    is_aborted: bool = False

    def aborted(self) -> Finished:
        """The end of a reply that was stopped before a replica could say so."""
        number, seed = self.command.request_id, self.command.params.seed or 0
        return Finished(number, self.text, FinishReason.ABORTED, 0, 0, seed, 0.0)


class Commands:
    """Executes commands; `send` takes the events."""

    def __init__(
        self,
        send: Callable[[WorkerEvent], None],
        replicas: Replicas,
        models: CurrentModels,
        tasks: BackgroundTasks,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self._send = send
        self._give_up_s = give_up_s
        self._replicas = replicas
        self._models = models
        self._tasks = tasks
        self._live: dict[int, _LiveReply] = {}
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._loads = Loads()
        self._epoch = time.time_ns()
        self._name = uuid4().hex[:8]

    def begin(self, command: Command) -> None:
        """Begin to execute a command; returns at once."""
        match command:
            case Ping(request_id=0):  # whether this process is alive
                self._send(Pong(0))
            case AskLoads(request_id=number):
                self._send(ReplicaLoads(number, self._loads.all()))
            case LoadModel() | Generate() | Render() | Ping():
                self._start(command)
            case Prefetch():
                self._spawn(self._prefetch(command), "prefetch")
            case DropCaches():
                self._epoch = max(self._epoch + 1, time.time_ns())
                self._spawn(self._tell_all("drop_caches", self._epoch), "drop of caches")
            case Abort(request_id=number):
                self._abort(number)

    def _start(self, command: Asked) -> None:
        number = command.request_id
        task = self._requests[number] = self._spawn(self._answer(command), f"request {number}")
        task.add_done_callback(lambda _: self._requests.pop(number, None))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._tasks.spawn(work, name=name)

    async def drain(self, seconds: float) -> None:
        """Let the requests under way end, for some seconds at most."""
        if self._requests and seconds:
            await asyncio.wait(list(self._requests.values()), timeout=seconds)

    async def _answer(self, command: Asked) -> None:
        """Send all events of a request; whatever goes wrong, the last one ends it."""
        try:
            match command:
                case LoadModel(request_id=number, source=source):
                    self._send(ModelLoaded(number, await self._models.load(source)))
                case Generate():
                    await self._generate(command)
                case Render():
                    await self._render(command)
                case Ping(request_id=number):
                    await self._replicas.one("check_health")
                    self._send(Pong(number))
        except Exception as e:
            self._send(_failed(command.request_id, e))

    # --- replies ---------------------------------------------------------------------------------

    async def _generate(self, command: Generate) -> None:
        """Make a reply with the version that is current now, however often it has to begin."""
        number = command.request_id
        if command.params.seed is None:
            seeded = replace(command.params, seed=random.getrandbits(31))
            command = replace(command, params=seeded)
        version = await self._models.version(command.source)
        live = self._live[number] = _LiveReply(command, version, self._epoch)
        try:
            await self._stream(live)
        except asyncio.CancelledError:
            if not live.is_aborted:
                raise
            self._send(live.aborted())
        finally:
            del self._live[number]

    async def _stream(self, live: _LiveReply) -> None:
        number, began = live.command.request_id, time.monotonic()
        attempts = unbroken(partial(self._attempt, live), self._give_up_s)
        async with aclosing(attempts) as events:
            async for event in events:
                match event:
                    case Crashed(reason=reason):
                        self._send(Failed(number, reason, died=True))
                    case Finished():
                        seconds = time.monotonic() - began
                        self._send(replace(event, request_id=number, seconds=seconds))
                    case TextDelta(text=text):
                        live.text += text
                        self._send(replace(event, request_id=number))
                    case _:
                        self._send(replace(event, request_id=number))

    async def _attempt(self, live: _LiveReply, attempt: int) -> AsyncGenerator[ReplicaEvent, None]:
        """The events of one replica, which is sent the model if it lacks it. Raises ReplicaLost."""
        if live.is_aborted:
            yield live.aborted()
            return
        live.key = f"{self._name}-{live.command.request_id}-{attempt}"
        shipments: tuple[Shipment, ...] = ()
        for _ in range(MAX_SUPPLIES):
            missing: tuple[str, ...] = ()
            async with aclosing(self._ask_replica(live, shipments)) as events:
                async for event in events:
                    if isinstance(event, NotHere):
                        missing = event.digests
                    else:
                        yield event
            if not missing:
                return
            shipments = await self._models.ship(live.version, missing)
        yield Failed(0, NOT_SUPPLIED, during_load=True)

    async def _ask_replica(
        self, live: _LiveReply, shipments: tuple[Shipment, ...]
    ) -> AsyncGenerator[ReplicaEvent, None]:
        command = live.command
        request = ReplyRequest(
            live.key,
            live.version.ref,
            command.messages,
            command.params,
            command.channel,
            command.scope,
            command.log_id,
            live.epoch,
            shipments,
        )
        affinity = self._replicas.affinity(command.channel)
        tally = Tally(self._loads, command.channel)
        try:
            async with aclosing(
                self._replicas.stream("generate", request, affinity=affinity)
            ) as batches:
                async for batch in batches:
                    for event in batch:
                        tally.see(event)
                        if isinstance(event, Began):
                            self._models.meet(event.replica)
                        else:
                            yield event
        except ReplicaLost:
            self._replicas.move(command.channel)
            raise
        finally:
            tally.end()

    def _abort(self, number: int) -> None:
        """Have the replica end a reply; if it does not, end it here."""
        live, task = self._live.get(number), self._requests.get(number)
        if live is None or task is None or live.is_aborted:
            return
        live.is_aborted = True
        self._spawn(self._tell_all("abort", live.key), "abort")
        timer = asyncio.get_running_loop().call_later(ABORT_TIMEOUT_S, task.cancel)
        task.add_done_callback(lambda _: timer.cancel())

    # --- others ----------------------------------------------------------------------------------

    async def _render(self, command: Render) -> None:
        version = await self._models.version(command.source)
        shipments: tuple[Shipment, ...] = ()
        for _ in range(MAX_SUPPLIES):
            answer = await self._replicas.one(
                "render",
                version.ref,
                command.messages,
                command.max_new_tokens,
                shipments,
                timeout_s=RENDER_TIMEOUT_S,
            )
            match answer:
                case NotHere(digests=missing):
                    shipments = await self._models.ship(version, missing)
                case Crashed(reason=reason):
                    raise WorkerDied(reason)
                case Rendered() | Failed():
                    self._send(replace(answer, request_id=command.request_id))
                    return
        raise LoadFailed(NOT_SUPPLIED)

    async def _prefetch(self, command: Prefetch) -> None:
        version = self._models.known(command.source)
        if version is not None and command.channel:
            with suppress(ReplicaLost):  # it is a hint
                await self._replicas.one(
                    "prefetch",
                    version.ref,
                    command.messages,
                    command.channel,
                    self._epoch,
                    affinity=self._replicas.affinity(command.channel),
                )

    async def _tell_all(self, method: str, word: object) -> None:
        with suppress(ReplicaLost):
            await self._replicas.all(method, word, timeout_s=ALL_TIMEOUT_S)


def _failed(number: int, error: Exception) -> Failed:
    """The end of a request that failed."""
    match error:
        case LoadFailed():
            return Failed(number, message_of(error), during_load=True)
        case GenerationFailed():
            return Failed(number, message_of(error))
        case ModelError():
            return Failed(number, message_of(error), died=True)
        case ReplicaLost():
            log.warning("request %d was lost: %s", number, error)
            return Failed(number, UNANSWERED, died=True)
        case _:
            log.error("request %d failed", number, exc_info=error)
            return Failed(number, failure_message(error), died=True)


def failure_message(error: Exception) -> Phrase:
    """Of an error that nobody expected; the log has all of it."""
    return phrase("The connection to the cluster failed ({error}).", error=type(error).__name__)

"""A replica: one process of the cluster that supervises a worker, as the bot does on one machine.

Knows its worker's client and the models on its node. Does not know the other replicas. Only the
gateway and Ray's own processes import this module, since it imports Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import ray
from ray import serve

from core.cluster.connection import ClusterError
from core.cluster.parcels import Shipment
from core.logging import request_context
from core.records import Message
from core.tasks import BackgroundTasks
from i18n.phrase import message_of, phrase
from model.cluster.messages import (
    BEAT_S,
    Began,
    Crashed,
    Loaded,
    ModelRef,
    NotHere,
    ReplicaEvent,
    ReplicaFacts,
    ReplicaOptions,
    ReplyRequest,
    build_id,
    skew_message,
)
from model.cluster.versions import NodeModels, node_folder
from model.errors import GenerationFailed, LoadFailed, ModelError, WorkerDied
from model.registry import model_options
from model.worker.client import WorkerClient
from model.worker.messages import Failed, Finished, Rendered, TextDelta

log = logging.getLogger(__name__)

LOAD_POLL_S = 2.0
"""Seconds after which `load` tells that it goes on, as a sign of life."""
TIDY_S = 60.0
"""How often the cache is told which models are in use."""
HEALTH_TIMEOUT_S = 10.0
"""Seconds for the worker to give a sign of life, before its own watchdog ends it."""
GATHER_S = 0.2
"""Seconds of text that are sent together: a message in Discord is edited once a second at most, and
what costs is each piece on its way, not its length."""
ENDS = (Finished, Failed, Crashed, NotHere)
"""Events after which there is no other."""

Events = tuple[ReplicaEvent, ...]


class Replica:
    """Answers the calls of `model.cluster.gateway`."""

    def __init__(self, options: ReplicaOptions) -> None:
        if (mine := build_id()) != options.build:
            raise RuntimeError(skew_message(mine, options.build))
        # Ray's own script: the worker's process would run it as well, and so import all of Ray.
        sys.modules["__main__"].__file__ = None
        home = node_folder(options.cache)
        self._wish = options.wish
        self._id = serve.get_replica_context().replica_id.unique_id
        self._models = NodeModels.of(home)
        self._worker: WorkerClient = (options.worker or WorkerClient)(
            replace(options.settings, build_cache=home / "built"),
            embedded=model_options[options.embedded].source,
        )
        self._starting: asyncio.Task[object] | None = None
        self._sources: dict[ModelRef, str] = {}
        self._loads: dict[ModelRef, asyncio.Task[Loaded]] = {}
        self._active: dict[str, int | None] = {}
        self._epoch = 0
        self._tidied_at = -TIDY_S
        self._tasks = BackgroundTasks()

    async def check_health(self) -> None:
        """Raises WorkerDied if the worker gives no sign of life."""
        await self._started()
        await self._worker.ping(HEALTH_TIMEOUT_S)
        if time.monotonic() - self._tidied_at >= TIDY_S:
            self._tidy()

    async def _started(self) -> None:
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._worker.start())
        await asyncio.shield(self._starting)

    async def facts(self) -> ReplicaFacts:
        """What it is, once its worker has given a sign of life."""
        await self.check_health()
        ready = self._worker.ready
        assert ready is not None
        return ReplicaFacts(
            self._id,
            build_id(),
            self._wish,
            ray.get_runtime_context().get_node_id(),
            ready.device,
            ready.training_precision,
            ready.model,
            self._worker.restarts,
            self._worker.num_pending,
        )

    async def load(self, ref: ModelRef, shipments: tuple[Shipment, ...] = ()) -> Loaded:
        """Load a model, also if it was set aside; tell what is missing for that. Asked again until
        it is loaded."""
        if (load := self._loads.get(ref)) is None:
            load = self._loads[ref] = asyncio.ensure_future(self._load(ref, shipments))
        done, _ = await asyncio.wait({load}, timeout=LOAD_POLL_S)
        if not done:
            return Loaded(self._id)
        self._loads.pop(ref, None)
        return load.result()

    async def _load(self, ref: ModelRef, shipments: tuple[Shipment, ...]) -> Loaded:
        try:
            if missing := await self._receive(ref, shipments):
                return Loaded(self._id, missing=missing)
            source = await self._source(ref)
            if source in self._worker.models and source not in self._worker.quarantined:
                return Loaded(self._id, self._worker.models[source])
            return Loaded(self._id, await self._worker.load(source))
        except (ModelError, ClusterError, OSError) as e:
            return Loaded(self._id, failure=_reason(e))

    async def _receive(self, ref: ModelRef, shipments: tuple[Shipment, ...]) -> tuple[str, ...]:
        """Unpack what was sent; the digests of what is missing still."""
        if shipments:
            await asyncio.to_thread(self._models.receive, shipments)
        if self._sources.get(ref) in self._worker.models:
            return ()
        return await asyncio.to_thread(self._models.missing, ref)

    async def _source(self, ref: ModelRef) -> str:
        """The folder of a model of which nothing is missing."""
        known = self._sources.get(ref)
        if known is None or known not in self._worker.models:
            known = self._sources[ref] = str(await asyncio.to_thread(self._models.folder, ref))
        return known

    async def generate(self, request: ReplyRequest) -> AsyncGenerator[Events, None]:
        """The events of a reply, in batches; an empty one each BEAT_S seconds of silence. The first
        text is sent at once, then GATHER_S seconds of it together."""
        await self.drop_caches(request.epoch)
        events: asyncio.Queue[ReplicaEvent] = asyncio.Queue()
        reply = asyncio.ensure_future(self._reply(request, events))
        gather_s = 0.0
        try:
            yield (Began(self._id),)
            while True:
                batch = await _next_batch(events, gather_s)
                if any(isinstance(one, TextDelta) for one in batch):
                    gather_s = GATHER_S
                yield batch
                if batch and isinstance(batch[-1], ENDS):
                    return
        finally:
            reply.cancel()
            await asyncio.gather(reply, return_exceptions=True)

    async def _reply(self, request: ReplyRequest, events: asyncio.Queue[ReplicaEvent]) -> None:
        """Put all events of a reply into the queue; the last is one of ENDS."""
        self._active[request.key] = None
        try:
            with request_context(request.log_id):
                await self._stream(request, events)
        except Exception as e:
            events.put_nowait(_failure(e))
        finally:
            self._active.pop(request.key, None)

    async def _stream(self, request: ReplyRequest, events: asyncio.Queue[ReplicaEvent]) -> None:
        if missing := await self._receive(request.model, request.shipments):
            events.put_nowait(NotHere(missing))
            return
        try:
            await self._pass_on(request, events)
        except LoadFailed:  # another worker had it in memory, and the disk has it no more
            if missing := await asyncio.to_thread(self._models.missing, request.model):
                events.put_nowait(NotHere(missing))
                return
            # Nothing is missing now: another replica of this node was sent it meanwhile.
            await self._pass_on(request, events)

    async def _pass_on(self, request: ReplyRequest, events: asyncio.Queue[ReplicaEvent]) -> None:
        """The worker's events of a reply. Raises LoadFailed before there is any text."""
        source = await self._source(request.model)
        pieces = self._worker.generate(
            source,
            request.messages,
            request.params,
            channel=request.channel,
            scope=request.scope,
        )
        async with aclosing(pieces):
            async for piece in pieces:
                if request.key not in self._active:  # it was told to end before it had a number
                    self._worker.abort(piece.request_id)
                else:
                    self._active[request.key] = piece.request_id
                events.put_nowait(piece)

    async def abort(self, key: str) -> None:
        """End a reply where it is, if it is made here."""
        if (number := self._active.pop(key, None)) is not None:
            self._worker.abort(number)

    async def render(
        self,
        ref: ModelRef,
        messages: tuple[Message, ...],
        max_new_tokens: int,
        shipments: tuple[Shipment, ...] = (),
    ) -> Rendered | NotHere | Failed | Crashed:
        """The prompt that the model would see."""
        try:
            if missing := await self._receive(ref, shipments):
                return NotHere(missing)
            return await self._worker.render(await self._source(ref), messages, max_new_tokens)
        except Exception as e:
            return _failure(e)

    async def prefetch(
        self, ref: ModelRef, messages: tuple[Message, ...], channel: int, epoch: int
    ) -> None:
        """Prefill what the channel's next prompt will begin with, if the model is in memory."""
        if epoch == self._epoch and (source := self._sources.get(ref)) is not None:
            self._worker.prefetch(source, messages, channel)

    async def drop_caches(self, epoch: int) -> None:
        """Drop what is cached of conversations, and the models on this node that nobody uses,
        unless that was done for this epoch. A replica that could not be told so learns it with its
        next request."""
        if epoch != self._epoch:
            is_new, self._epoch = not self._epoch, epoch
            self._worker.drop_caches()
            if not is_new:
                self._tidy(drop_unused=True)

    def _tidy(self, *, drop_unused: bool = False) -> None:
        """Have a thread tidy up the models on this node."""
        self._tidied_at = time.monotonic()
        in_use = [ref for ref, one in self._sources.items() if one in self._worker.models]
        work = asyncio.to_thread(self._models.tidy, in_use, drop_unused=drop_unused)
        self._tasks.spawn(work, name="tidying up")


async def _next_batch(events: asyncio.Queue[ReplicaEvent], gather_s: float) -> Events:
    """What has happened since the last batch, and happens within `gather_s` seconds unless the
    reply ends; nothing after BEAT_S seconds."""
    try:
        async with asyncio.timeout(BEAT_S):
            batch = [await events.get()]
    except TimeoutError:
        return ()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(gather_s):
            while not isinstance(batch[-1], ENDS):
                batch.append(await events.get())
    return _joined(batch)


def _joined(batch: Sequence[ReplicaEvent]) -> Events:
    """The events with pieces of text that follow each other as one."""
    found: list[ReplicaEvent] = []
    for event in batch:
        last = found[-1] if found else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            found[-1] = replace(event, text=last.text + event.text)
        else:
            found.append(event)
    return tuple(found)


def _failure(error: Exception) -> Failed | Crashed:
    """Why there is no (more) reply."""
    match error:
        case WorkerDied():
            return Crashed(message_of(error))
        case GenerationFailed():
            return Failed(0, message_of(error))
        case LoadFailed() | ClusterError() | OSError():
            return Failed(0, _reason(error), during_load=True)
        case _:
            log.error("a reply failed", exc_info=error)
            kind = type(error).__name__
            return Failed(0, phrase("A machine of the cluster failed ({error}).", error=kind))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return phrase("A machine of the cluster cannot store the model: {why}.", why=why)
    return message_of(error)

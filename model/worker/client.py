"""The GenerationBackend in use: a client of the worker process, which it restarts when it dies.

Knows the messages, and when to replace a process. Imports no torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Self, TypeVar

from core.logging import current_request
from core.records import Message
from i18n.phrase import phrase
from model.errors import GenerationFailed, LoadFailed, ModelError, WorkerDied
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.messages import (
    Abort,
    Command,
    DropCaches,
    Failed,
    Finished,
    Generate,
    LoadModel,
    ModelInfo,
    ModelLoaded,
    ModelSetAside,
    ModelUnloaded,
    Ping,
    Pong,
    Prefetch,
    Queued,
    Ready,
    Render,
    Rendered,
    Shutdown,
    TextDelta,
    WorkerEvent,
    WorkerEvents,
)
from model.worker.process import Entry, WorkerProcess, run_worker
from model.worker.quarantine import Quarantine
from model.worker.watchdog import HANG_TIMEOUT_S, PING_INTERVAL_S, Watchdog

log = logging.getLogger(__name__)

INITIAL_BACKOFF_S, MAX_BACKOFF_S = 0.1, 30.0
"""Exponential back-off between restarts, in seconds."""
BACKOFF_RESET_S = 60.0
"""After this many seconds of uptime the back-off starts over."""
EXIT_TIMEOUT_S = 2.0
"""Seconds for an idle worker to exit before it is killed."""
START_TIMEOUT_S = 120.0
"""Seconds for a worker to start, and for a request to wait for one."""
WORKER_DIED = phrase("The model stopped unexpectedly and is being restarted. Please ask again.")
WORKER_HUNG = phrase("The model hung and is being restarted. Please ask again.")
WORKER_UNRESPONSIVE = phrase("The model does not answer.")
SHUTTING_DOWN = phrase("I am shutting down; please ask again later.")

Response = WorkerEvent | ModelError
R = TypeVar("R", bound=WorkerEvent)


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A command that the worker has not finished; `source` is its model, None for a ping."""

    command: Command
    source: str | None
    responses: asyncio.Queue[Response] = field(default_factory=asyncio.Queue)


class WorkerClient:
    """A GenerationBackend: runs one worker process at a time, matches answers to requests. The
    worker is pinged every `ping_s` seconds, and replaced after `hang_s` seconds of silence. It has
    `start_s` seconds to start; a request waits for that for `wait_s` seconds (None: as long). One
    that does not start is started again after `most_backoff_s` seconds at the latest."""

    def __init__(
        self,
        settings: WorkerSettings | None = None,
        *,
        embedded: str = str(EMBEDDED_FOLDER),
        ping_s: float = PING_INTERVAL_S,
        hang_s: float = HANG_TIMEOUT_S,
        start_s: float = START_TIMEOUT_S,
        wait_s: float | None = None,
        most_backoff_s: float = MAX_BACKOFF_S,
        entry: Entry = run_worker,
    ) -> None:
        self._entry = entry
        self._wait_s = start_s if wait_s is None else wait_s
        self._settings = settings or WorkerSettings()
        self._embedded = embedded
        self._ping_s, self._hang_s, self._start_s = ping_s, hang_s, start_s
        self._process: WorkerProcess | None = None
        self._is_ready = asyncio.Event()
        self._stopping = False
        self._ids = itertools.count(1)
        self._pending: dict[int, PendingRequest] = {}
        self._models: dict[str, ModelInfo] = {}
        self._restore_sources: set[str] = set()
        self._quarantine = Quarantine()
        self._watchdog: Watchdog | None = None
        self._watchdog_task: asyncio.Task[None] | None = None
        self._hung = False
        self._restart_task: asyncio.Task[None] | None = None
        self._backoff_s, self._most_backoff_s = INITIAL_BACKOFF_S, most_backoff_s
        self.ready: Ready | None = None
        self.restarts = 0

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """The models in the worker's memory, by source."""
        return self._models

    @property
    def quarantined(self) -> Mapping[str, str]:
        """The models that are set aside, and why; `load` tries them again."""
        return self._quarantine.quarantined

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def num_pending(self) -> int:
        """Requests that the worker has not finished."""
        return len(self._pending)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> Ready:
        """Start the process and wait for its handshake. Raises LoadFailed: the embedded model
        cannot be loaded. Raises WorkerDied: the process ended before it was ready, or was not ready
        in time."""
        loop = asyncio.get_running_loop()
        self._process = process = WorkerProcess(self._settings, self._embedded, self._entry)
        process.listen(loop, self._on_events, self._on_end)
        try:
            async with asyncio.timeout(self._start_s):
                return await process.handshake
        except TimeoutError as e:
            await self._abandon(process)
            raise WorkerDied(phrase("The model's process did not start in time.")) from e
        except BaseException:  # cancelled, or the handshake failed: leave no process behind
            await self._abandon(process)
            raise

    async def _abandon(self, process: WorkerProcess) -> None:
        self._process = None
        await process.end(0)

    async def start_with_backoff(self) -> None:
        """Start the worker; retry with exponential back-off until it runs."""
        while True:
            try:
                await self.start()
            except (ModelError, OSError) as e:
                log.error("the worker does not start: %s", e)
            else:
                return
            await self._back_off()

    async def _back_off(self) -> None:
        await asyncio.sleep(self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, self._most_backoff_s)

    async def stop(self) -> None:
        """Let replies in flight finish, for at most `drain_s` seconds, then end the process."""
        self._stopping = True
        self._is_ready.set()  # wakes the requests that wait for a worker, which then fail
        self._stop_watchdog()
        if self._restart_task is not None:
            self._restart_task.cancel()
            await asyncio.gather(self._restart_task, return_exceptions=True)
        if (process := self._process) is not None:
            process.send(Shutdown(self._settings.drain_s))
            is_running = process.handshake.done()
            await process.end(self._settings.drain_s + EXIT_TIMEOUT_S if is_running else 0)
        self._process = None
        self._fail_pending(SHUTTING_DOWN)

    async def load(self, source: str) -> ModelInfo:
        self._quarantine.quarantined.pop(source, None)
        loaded = await self._ask(lambda number: LoadModel(number, source), ModelLoaded, source)
        return loaded.info

    async def render(
        self, source: str, messages: Sequence[Message], max_new_tokens: int
    ) -> Rendered:
        return await self._ask(
            lambda number: Render(number, source, tuple(messages), max_new_tokens), Rendered, source
        )

    async def generate(
        self,
        source: str,
        messages: Sequence[Message],
        params: SamplingParams,
        *,
        channel: int = 0,
        scope: int = 0,
    ) -> AsyncGenerator[Queued | TextDelta | Finished, None]:
        log_id = current_request()
        async with self._request(
            lambda number: Generate(
                number, source, tuple(messages), params, channel, scope, log_id
            ),
            source,
        ) as responses:
            while True:
                match await responses.get():
                    case Queued() | TextDelta() as piece:
                        yield piece
                    case Finished() as finished:
                        yield finished
                        return
                    case other:
                        raise _to_error(other)

    async def ping(self, timeout_s: float = 5.0) -> float:
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await self._ask(Ping, Pong)
        except TimeoutError as e:
            raise WorkerDied(WORKER_UNRESPONSIVE) from e
        return time.monotonic() - started

    def abort(self, request_id: int) -> None:
        self._send(Abort(request_id))

    def prefetch(self, source: str, messages: Sequence[Message], channel: int) -> None:
        if messages and source in self._models:
            self._send(Prefetch(source, tuple(messages), channel))

    def drop_caches(self) -> None:
        self._send(DropCaches())

    async def _ask(
        self, make: Callable[[int], Command], kind: type[R], source: str | None = None
    ) -> R:
        """Send a command that has one response, of this kind."""
        async with self._request(make, source) as responses:
            answer = await responses.get()
        if not isinstance(answer, kind):
            raise _to_error(answer)
        return answer

    @contextlib.asynccontextmanager
    async def _request(
        self, make: Callable[[int], Command], source: str | None = None
    ) -> AsyncIterator[asyncio.Queue[Response]]:
        """Send a command and give the queue of its responses; leaving early aborts it."""
        await self._wait_until_ready()
        if source is not None and source in self.quarantined:
            raise LoadFailed(self.quarantined[source])
        if source and source != self._embedded:
            self._quarantine.record_use(source)
        number = next(self._ids)
        request = self._pending[number] = PendingRequest(make(number), source)
        try:
            self._send(request.command)
            yield request.responses
        finally:
            if self._pending.pop(number, None) is not None:
                self._send(Abort(number))

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._is_ready.wait()
        except TimeoutError as e:
            reason = phrase("The model does not start. The operator can read why.")
            raise WorkerDied(reason) from e
        if self._stopping:
            raise WorkerDied(SHUTTING_DOWN)

    def _send(self, command: Command) -> None:
        if self._process is not None:
            self._process.send(command)

    # --- callbacks: the reader thread schedules them on the event loop ---------------------------

    def _on_events(self, process: WorkerProcess, events: WorkerEvents) -> None:
        if process is self._process and self._watchdog is not None:
            self._watchdog.saw_event = True
        for event in events:
            if process is self._process:  # the process may have been replaced by then
                self._on_event(process, event)

    def _on_event(self, process: WorkerProcess, event: WorkerEvent) -> None:
        match event:
            case Ready() | Failed(request_id=0):
                self._on_handshake(process, event)
            case ModelUnloaded(source=source):
                self._models.pop(source, None)
                self._restore_sources.discard(source)
            case ModelSetAside(source=source, reason=reason):
                self._models.pop(source, None)
                self._set_aside({source: reason})
            case ModelLoaded(request_id=request_id, info=info):
                self._models[info.source] = info
                self._restore_sources.add(info.source)
                self._respond(request_id, event, is_last=True)
            case Queued(request_id=request_id) | TextDelta(request_id=request_id):
                self._respond(request_id, event, is_last=False)
            case _:
                self._respond(event.request_id, event, is_last=True)

    def _respond(self, request_id: int, event: WorkerEvent, *, is_last: bool) -> None:
        """Hand an event to its request, unless that was abandoned or was the watchdog's ping."""
        if (request := self._pending.get(request_id)) is not None:
            request.responses.put_nowait(event)
            if is_last:
                del self._pending[request_id]

    def _on_handshake(self, process: WorkerProcess, result: Ready | Failed) -> None:
        if process.handshake.done():
            return  # `start` was cancelled in this very moment
        if isinstance(result, Failed):
            process.handshake.set_exception(LoadFailed(result.reason))
        else:
            self._on_ready(process, result)
            process.handshake.set_result(result)

    def _on_ready(self, process: WorkerProcess, ready: Ready) -> None:
        model = ready.model
        log.info(
            "worker %d ready: %s parameters on %s in %s, loaded in %.1f s",
            ready.pid,
            f"{model.parameters:,}",
            ready.device,
            model.dtype,
            model.load_s,
        )
        self.ready = ready
        self._models = {model.source: model}
        self._is_ready.set()
        self._start_watchdog(process)

    def _start_watchdog(self, process: WorkerProcess) -> None:
        def on_hang() -> None:
            log.error("the worker process did not respond for %.0f s; killing it", self._hang_s)
            self._hung = True
            process.kill()

        self._stop_watchdog()
        self._hung = False
        self._watchdog = Watchdog(
            lambda: process.send(Ping(0)), on_hang, ping_s=self._ping_s, hang_s=self._hang_s
        )
        self._watchdog_task = asyncio.ensure_future(self._watchdog.watch())

    def _stop_watchdog(self) -> None:
        if self._watchdog_task is not None:
            self._watchdog_task.cancel()

    def _on_end(self, process: WorkerProcess) -> None:
        if process is not self._process or self._stopping:
            return
        self._process = None
        if process.handshake.cancelled():
            return
        if not process.handshake.done():
            reason = phrase("The model's process ended while it was starting.")
            process.handshake.set_exception(WorkerDied(reason))
            return
        log.error("the worker process ended; starting it again")
        self._is_ready.clear()
        self._stop_watchdog()
        self._set_aside(self._blame(process))
        self._fail_pending(WORKER_HUNG if self._hung else WORKER_DIED)
        if self._restart_task is not None:
            self._restart_task.cancel()  # it was restoring models into the worker that just died
        self._restart_task = asyncio.ensure_future(self._restart(process))

    def _blame(self, dead: WorkerProcess) -> Mapping[str, str]:
        """The models that are quarantined for this death, and why."""
        return self._quarantine.record_death(self._suspects(dead))

    def _suspects(self, dead: WorkerProcess) -> set[str]:
        """The models that the process was running or loading; if neither is known, those with
        pending requests."""
        requested = {one.source for one in self._pending.values() if one.source}
        loading = requested - self._models.keys() | {
            one.command.source
            for one in self._pending.values()
            if isinstance(one.command, LoadModel)
        }
        running = dead.running_models.among(requested | self._models.keys())
        return running | loading or requested

    def _set_aside(self, reasons: Mapping[str, str]) -> None:
        self._quarantine.quarantined.update(reasons)
        self._restore_sources -= reasons.keys()
        for source, reason in reasons.items():
            log.error("%s is quarantined: %s", source, reason)

    def _fail_pending(self, reason: str) -> None:
        for request in self._pending.values():
            request.responses.put_nowait(WorkerDied(reason))
        self._pending.clear()

    async def _restart(self, dead: WorkerProcess) -> None:
        """Replace a dead worker, then load the models that it held."""
        if time.monotonic() - dead.started_at >= BACKOFF_RESET_S:
            self._backoff_s = INITIAL_BACKOFF_S
        await dead.end(0)
        await self._back_off()
        await self.start_with_backoff()
        self.restarts += 1
        for source in self._restore_sources - {self._embedded}:
            try:
                await self.load(source)
            except LoadFailed as e:
                self._restore_sources.discard(source)
                log.error("%s could not be loaded again: %s", source, e)


def _to_error(response: Response) -> ModelError:
    match response:
        case ModelError():
            return response
        case Failed(reason=reason, during_load=True):
            return LoadFailed(reason)
        case Failed(reason=reason, died=True):
            return WorkerDied(reason)
        case Failed(reason=reason):
            return GenerationFailed(reason)
        case _:
            return GenerationFailed(phrase("The model gave an unexpected answer."))

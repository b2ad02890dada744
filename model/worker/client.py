"""The bot's side of the worker process: start it, talk to it, start it again when it dies.

Knows the messages and when a process is to be replaced. Imports no torch.
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
    Awaitable,
    Callable,
    Mapping,
    Sequence,
    Set,
)
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

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
    Failed,
    Finished,
    Generate,
    LoadModel,
    ModelInfo,
    ModelLoaded,
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
from model.worker.process import WorkerProcess
from model.worker.quarantine import QUARANTINE_DEATHS, QUARANTINED, Quarantine
from model.worker.watchdog import HANG_TIMEOUT_S, PING_INTERVAL_S, Watchdog

log = logging.getLogger(__name__)

INITIAL_BACKOFF_S, MAX_BACKOFF_S = 0.1, 30.0
"""Back-off between restarts: the first, doubled up to the longest."""
BACKOFF_RESET_S = 60.0
"""A worker that lived this long makes the next restart quick again."""
EXIT_TIMEOUT_S = 2.0
"""Seconds that a worker with nothing to do gets to end."""
START_TIMEOUT_S = 120.0
"""Seconds that a worker gets to start, and a request waits for it."""
WORKER_DIED = phrase("The model stopped unexpectedly and is being restarted. Please ask again.")
WORKER_HUNG = phrase("The model hung and is being restarted. Please ask again.")
WORKER_UNRESPONSIVE = phrase("The model does not answer.")
SHUTTING_DOWN = phrase("I am shutting down; please ask again later.")

Response = WorkerEvent | ModelError


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request that waits for answers; `source` is the model that it is for, if it is for one."""

    source: str | None
    responses: asyncio.Queue[Response] = field(default_factory=asyncio.Queue)


class WorkerClient:
    """One worker process at a time, and the requests that wait for it.

    Every `ping_s` seconds it is asked for a sign of life; `hang_s` without one, and it is replaced.
    """

    def __init__(
        self,
        settings: WorkerSettings | None = None,
        *,
        embedded: str = str(EMBEDDED_FOLDER),
        on_restart: Callable[[], Awaitable[None]] | None = None,
        ping_s: float = PING_INTERVAL_S,
        hang_s: float = HANG_TIMEOUT_S,
        start_s: float = START_TIMEOUT_S,
    ) -> None:
        self._start_s = start_s
        self._settings = settings or WorkerSettings()
        self._embedded = embedded
        self._on_restart = on_restart
        self._ping_s, self._hang_s = ping_s, hang_s
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
        self._backoff_s = INITIAL_BACKOFF_S
        self.ready: Ready | None = None
        self.restarts = 0

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """The models in the worker's memory, by source."""
        return self._models

    @property
    def quarantined(self) -> Set[str]:
        """The models that the worker died with too often; `load` tries them again."""
        return self._quarantine.quarantined

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def num_pending(self) -> int:
        """How many requests the worker has not ended."""
        return len(self._pending)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> Ready:
        """Start the process and wait for its handshake.

        Raises:
            LoadFailed: the embedded model cannot be loaded.
            WorkerDied: the process ended before it was ready, or was not ready in time.
        """
        loop = asyncio.get_running_loop()
        self._process = process = WorkerProcess(self._settings, self._embedded)
        process.listen(loop, self._on_events, self._on_end)
        try:
            async with asyncio.timeout(self._start_s):
                return await process.handshake
        except BaseException as e:  # also when the caller does not wait any longer
            self._process = None
            await process.end(0)
            if isinstance(e, TimeoutError):
                raise WorkerDied(phrase("The model's process does not come to its start.")) from e
            raise

    async def start_with_backoff(self) -> None:
        """Start, and try again, with longer and longer pauses, until it runs."""
        while True:
            try:
                await self.start()
            except (ModelError, OSError) as e:
                log.error("the worker does not start: %s", e)
            else:
                return
            await asyncio.sleep(self._backoff_s)
            self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)

    async def stop(self) -> None:
        """Finish replies in flight, for at most `drain_s` seconds, and end the process."""
        self._stopping = True
        self._is_ready.set()  # who waits for it learns that nothing comes
        self._stop_watchdog()
        if self._restart_task is not None:
            self._restart_task.cancel()
            await asyncio.gather(self._restart_task, return_exceptions=True)
        if (process := self._process) is not None:
            process.send(Shutdown(self._settings.drain_s))
            runs = process.handshake.done()
            await process.end(self._settings.drain_s + EXIT_TIMEOUT_S if runs else 0)
        self._process = None
        self._fail_pending(SHUTTING_DOWN)

    async def load(self, source: str) -> ModelInfo:
        """Load a model beside the others (anew, if it is loaded already, or was set aside).

        Raises:
            LoadFailed: the sentence says why; whatever answered before still does.
            WorkerDied: the worker ended meanwhile.
        """
        self._quarantine.quarantined.discard(source)
        async with self._request(lambda number: LoadModel(number, source), source) as answers:
            match await answers.get():
                case ModelLoaded(info=facts):
                    return facts
                case other:
                    raise _to_error(other)

    async def render(
        self, source: str, messages: Sequence[Message], max_new_tokens: int
    ) -> Rendered:
        """What the model would see of these messages.

        Raises:
            LoadFailed, WorkerDied: there is no model to ask.
        """
        async with self._request(
            lambda number: Render(number, source, tuple(messages), max_new_tokens), source
        ) as answers:
            match await answers.get():
                case Rendered() as rendered:
                    return rendered
                case other:
                    raise _to_error(other)

    async def generate(
        self,
        source: str,
        messages: Sequence[Message],
        params: SamplingParams,
        *,
        channel: int = 0,
        scope: int = 0,
    ) -> AsyncGenerator[Queued | TextDelta | Finished, None]:
        """The reply to the newest of `messages`, piece by piece; the last item is Finished.

        The first may be Queued, where others are served before. See `Generate` for `channel` and
        `scope`. Closing the iterator early stops the reply in the worker.

        Raises:
            GenerationFailed, LoadFailed, WorkerDied: there is no (more) reply.
        """
        log_id = current_request()
        async with self._request(
            lambda number: Generate(
                number, source, tuple(messages), params, channel, scope, log_id
            ),
            source,
        ) as answers:
            while True:
                match await answers.get():
                    case Queued() | TextDelta() as piece:
                        yield piece
                    case Finished() as end:
                        yield end
                        return
                    case other:
                        raise _to_error(other)

    async def ping(self, timeout_s: float = 5.0) -> float:
        """Seconds that the worker takes to give a sign of life.

        Raises:
            WorkerDied: it gives none in time.
        """
        asked = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s), self._request(Ping) as answers:
                match await answers.get():
                    case Pong():
                        return time.monotonic() - asked
                    case other:
                        raise _to_error(other)
        except TimeoutError as e:
            raise WorkerDied(WORKER_UNRESPONSIVE) from e

    def abort(self, request_id: int) -> None:
        """End a reply that has begun where it is: its stream goes on to its Finished."""
        self._send(Abort(request_id))

    def prefetch(self, source: str, messages: Sequence[Message], channel: int) -> None:
        """Tell the worker how the channel's next request will begin; it reads that when idle."""
        if messages and source in self._models:
            self._send(Prefetch(source, tuple(messages), channel))

    @contextlib.asynccontextmanager
    async def _request(
        self, make: Callable[[int], Command], source: str | None = None
    ) -> AsyncIterator[asyncio.Queue[Response]]:
        """Send a command; its answers. Leaving before the last one stops the work on it."""
        await self._wait_until_ready()
        if source in self.quarantined:
            raise LoadFailed(QUARANTINED)
        if source and source != self._embedded:
            self._quarantine.record_use(source)
        number = next(self._ids)
        waiting = self._pending[number] = PendingRequest(source)
        try:
            self._send(make(number))
            yield waiting.responses
        finally:
            if self._pending.pop(number, None) is not None:
                self._send(Abort(number))

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._is_ready.wait()
        except TimeoutError as e:
            reason = phrase("The model does not start. The operator can read why.")
            raise WorkerDied(reason) from e
        if self._stopping:
            raise WorkerDied(SHUTTING_DOWN)

    def _send(self, command: Command) -> None:
        if self._process is not None:
            self._process.send(command)

    # --- what the reader thread hands over -------------------------------------------------------

    def _on_events(self, process: WorkerProcess, reports: WorkerEvents) -> None:
        if process is self._process and self._watchdog is not None:
            self._watchdog.record_activity()
        for report in reports:
            if process is self._process:
                self._on_event(process, report)

    def _on_event(self, process: WorkerProcess, report: WorkerEvent) -> None:
        match report:
            case Ready() if not process.handshake.done():
                self._on_ready(process, report)
                process.handshake.set_result(report)
                return
            case Failed(request_id=0) if not process.handshake.done():
                process.handshake.set_exception(LoadFailed(report.reason))
                return
            case ModelLoaded(info=facts):
                self._models[facts.source] = facts
                self._restore_sources.add(facts.source)
            case ModelUnloaded(source=source):
                self._models.pop(source, None)
                self._restore_sources.discard(source)
            case _:
                pass
        if isinstance(report, Ready | ModelUnloaded) or report.request_id not in self._pending:
            return
        self._pending[report.request_id].responses.put_nowait(report)
        if not isinstance(report, Queued | TextDelta):
            del self._pending[report.request_id]

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
        def hangs() -> None:
            log.error("the worker process gave no sign of life for %.0f s", self._hang_s)
            self._hung = True
            process.kill()

        self._stop_watchdog()
        self._hung = False
        self._watchdog = Watchdog(
            lambda: process.send(Ping(0)), hangs, ping_s=self._ping_s, hang_s=self._hang_s
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
            reason = phrase("The model's process ended at its start.")
            process.handshake.set_exception(WorkerDied(reason))
            return
        log.error("the worker process ended; starting it again")
        self._is_ready.clear()
        self._stop_watchdog()
        self._quarantine_models({one.source for one in self._pending.values() if one.source})
        self._fail_pending(WORKER_HUNG if self._hung else WORKER_DIED)
        if self._restart_task is not None:
            self._restart_task.cancel()  # it was loading models into the one that has just ended
        self._restart_task = asyncio.ensure_future(self._restart(process))

    def _quarantine_models(self, waited_for: Set[str]) -> None:
        for source in self._quarantine.record_death(waited_for):
            self._restore_sources.discard(source)
            log.error(
                "%s is set aside: the worker died %d times in a row with it",
                source,
                QUARANTINE_DEATHS,
            )

    def _fail_pending(self, reason: str) -> None:
        for waiting in self._pending.values():
            waiting.responses.put_nowait(WorkerDied(reason))
        self._pending.clear()

    async def _restart(self, dead: WorkerProcess) -> None:
        """Try until it runs; then load again what was loaded."""
        if time.monotonic() - dead.started_at >= BACKOFF_RESET_S:
            self._backoff_s = INITIAL_BACKOFF_S
        await dead.end(0)
        await asyncio.sleep(self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        await self.start_with_backoff()
        self.restarts += 1
        for source in self._restore_sources - {self._embedded}:
            try:
                await self.load(source)
            except LoadFailed as e:
                self._restore_sources.discard(source)
                log.error("%s could not be loaded again: %s", source, e)
        if self._on_restart is not None:
            try:
                await self._on_restart()
            except Exception:
                log.exception("what was to be done after the restart failed")


def _to_error(answer: object) -> ModelError:
    match answer:
        case ModelError():
            return answer
        case Failed(reason=reason, during_load=True):
            return LoadFailed(reason)
        case Failed(reason=reason):
            return GenerationFailed(reason)
        case _:
            return GenerationFailed(phrase("The model gave an answer that was not expected."))

"""The worker process: takes commands from a pipe, runs the engine, sends events back.

`model.worker.process` starts `main` with multiprocessing's "spawn". Each model is loaded in its own
thread, so that other models keep answering. SIGINT is left to the parent (a terminal sends it to
both); SIGTERM, or the end of the pipe, ends the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from jinja2 import TemplateError

from core.logging import configure_logging, request_context
from core.subprocesses import SECRET_VARIABLES
from i18n.phrase import Phrase, message_of, phrase
from model.bases import Bases
from model.engine.engine import MB, OUT_OF_MEMORY, Engine, QueueFull
from model.errors import LoadFailed, RunawayModel
from model.isolation import runaway_message
from model.loading import LoadedModel, load
from model.registry import display_name
from model.runners.device import Device, available_cores, best_device
from model.settings import WorkerSettings
from model.worker.messages import (
    Abort,
    Command,
    DropCaches,
    Failed,
    Generate,
    LoadModel,
    ModelLoaded,
    ModelSetAside,
    ModelUnloaded,
    Ping,
    Pong,
    Prefetch,
    Ready,
    Render,
    Shutdown,
    WorkerEvent,
)
from model.worker.outbox import Outbox
from model.worker.running_models import RunningModels

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _LoadDone:
    """A loading thread has finished: its message to the main thread."""

    source: str
    result: LoadedModel | LoadFailed


def main(
    connection: Connection, running: RunningModels, settings: WorkerSettings, embedded: str
) -> None:
    """Load the embedded model, report Ready, then serve until Shutdown."""
    secrets = [os.environ.pop(name, "").strip() for name in sorted(SECRET_VARIABLES)]
    configure_logging(settings.log_level, settings.log_format, secrets)
    if hasattr(os, "nice"):
        os.nice(5)  # the bot's event loop goes first
    commands: queue.SimpleQueue[Command | _LoadDone] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: commands.put(Shutdown(settings.drain_s)))
    device = best_device(settings.precision)
    with _build_cache(settings) as folder:
        worker = Worker(connection, running, commands, device, settings, embedded, folder)
        try:
            first = worker.load(embedded)
        except LoadFailed as e:
            worker.send(Failed(0, message_of(e), during_load=True))
            return
        worker.engine.install(first)
        worker.send(Ready(os.getpid(), device.name, device.training_precision, first.info))
        threading.Thread(target=_read_commands, args=(connection, commands), daemon=True).start()
        worker.run()


@contextlib.contextmanager
def _build_cache(settings: WorkerSettings) -> Iterator[Path]:
    """The folder of the settings; else a temporary one, which a kill would leave behind."""
    if settings.build_cache is not None:
        yield settings.build_cache
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _read_commands(
    connection: Connection, commands: queue.SimpleQueue[Command | _LoadDone]
) -> None:
    try:
        while True:
            commands.put(connection.recv())
    except (EOFError, OSError):
        commands.put(Shutdown(0))


class Worker:
    """Dispatches commands; keeps the models in memory that fit `settings.memory_mb`.

    `folder` caches built models.
    """

    def __init__(
        self,
        connection: Connection,
        running: RunningModels,
        commands: queue.SimpleQueue[Command | _LoadDone],
        device: Device,
        settings: WorkerSettings,
        embedded: str,
        folder: Path,
    ) -> None:
        self._outbox = Outbox(connection)
        self.engine = Engine(self._outbox.put, settings, on_run=running.begin)
        self._running = running
        self._commands = commands
        self._device = device
        self._settings = settings
        self._embedded = embedded
        self._build_cache = folder
        self._bases = Bases()
        self._awaiting_load: dict[str, list[LoadModel | Generate | Render]] = defaultdict(list)
        self._drain_deadline: float | None = None
        self._last_loaded = embedded

    def run(self) -> None:
        """Take commands between steps; block only when the engine is idle."""
        while not self._should_exit():
            if self.engine.has_work and self._commands.empty():
                self.engine.step()
                self._outbox.flush_due()
                self._evict_models()
            else:
                if not self.engine.has_work:
                    self._running.clear()
                self.handle(self._commands.get())

    def send(self, event: WorkerEvent) -> None:
        """Report an event to the bot."""
        self._outbox.put(event)

    def load(self, source: str) -> LoadedModel:
        """Load a model in this thread.

        Raises:
            LoadFailed: the message says why.
        """
        return load(
            source,
            device=self._device,
            cache=self._build_cache,
            rows=self._settings.max_sequences,
            threads=self._settings.threads or available_cores(),
            bases=self._bases,
        )

    def _should_exit(self) -> bool:
        if self._drain_deadline is None:
            return False
        return not self.engine.has_requests or time.monotonic() >= self._drain_deadline

    def handle(self, command: Command | _LoadDone) -> None:
        """Execute a command, or start to."""
        match command:
            case LoadModel(source=source):
                self._load(source, command)
            case Generate(source=source) | Render(source=source):
                self._start_or_load(source, command)
            case Prefetch() | DropCaches():
                self._update_caches(command)
            case Abort(request_id=request_id):
                self._abort(request_id)
            case Ping(request_id=request_id):
                self.send(Pong(request_id))
            case _LoadDone(source=source, result=result):
                self._on_loaded(source, result)
            case Shutdown(drain_s=seconds):
                self._drain_deadline = time.monotonic() + seconds

    def _start_or_load(self, source: str, request: Generate | Render) -> None:
        if self._drain_deadline is not None:
            closing = phrase("I am shutting down; please ask again later.")
            self.send(Failed(request.request_id, closing))
        elif source not in self.engine.sources:
            self._load(source, request)
        else:
            self._start(request)

    def _update_caches(self, request: Prefetch | DropCaches) -> None:
        if isinstance(request, DropCaches):
            self._drop_caches()
            return
        try:
            with contextlib.suppress(TemplateError, MemoryError):  # the reply will report it
                self.engine.prefetch(request)
        except RunawayModel:
            self._set_aside(request.source)

    def _set_aside(self, source: str) -> Phrase:
        """Evict a model whose template or tokenizer ran away; returns the reason."""
        reason = runaway_message(display_name(source))
        self.engine.evict(source)
        self.send(ModelSetAside(source, reason))
        return reason

    def _start(self, request: Generate | Render) -> None:
        try:
            if isinstance(request, Generate):
                with request_context(request.log_id):
                    self.engine.submit(request)
            else:
                self.engine.render(request)
        except QueueFull as e:
            self.send(Failed(request.request_id, message_of(e)))
        except MemoryError:
            log.exception("building a prompt failed")
            self.send(Failed(request.request_id, OUT_OF_MEMORY))
        except ValueError as e:
            reason = phrase("That cannot be answered: {why}.", why=e)
            self.send(Failed(request.request_id, reason))
        except RunawayModel:
            self.send(Failed(request.request_id, self._set_aside(request.source)))
        except TemplateError as e:
            who = display_name(request.source)
            reason = phrase("The chat template of {who} does not take that: {why}.", who=who, why=e)
            self.send(Failed(request.request_id, reason))

    def _load(self, source: str, request: LoadModel | Generate | Render) -> None:
        is_loading = source in self._awaiting_load
        self._awaiting_load[source].append(request)
        if not is_loading:
            threading.Thread(target=self._load_in_thread, args=(source,), daemon=True).start()

    def _load_in_thread(self, source: str) -> None:
        try:
            result: LoadedModel | LoadFailed = self.load(source)
        except LoadFailed as e:
            result = e
        except Exception as e:  # without a result the waiting requests would hang
            log.exception("loading %s failed", source)
            error = type(e).__name__
            result = LoadFailed(phrase("The model could not be loaded ({error}).", error=error))
        self._commands.put(_LoadDone(source, result))

    def _on_loaded(self, source: str, result: LoadedModel | LoadFailed) -> None:
        requests = self._awaiting_load.pop(source)
        if isinstance(result, LoadFailed):
            for request in requests:
                self.send(Failed(request.request_id, message_of(result), during_load=True))
            return
        self.engine.install(result)
        self._last_loaded = source
        self._evict_models()
        for request in requests:
            if isinstance(request, LoadModel):
                self.send(ModelLoaded(request.request_id, result.info))
            else:
                self._start_or_load(source, request)

    def _evict_models(self) -> None:
        """Evict the least recently used models until the weights fit the memory limit.

        Four kinds stay even above it: the embedded model (the fallback of all the others), the one
        that was loaded last (somebody is about to use it), those with replies in progress, and the
        bases of adapters that are in memory.
        """
        pinned = (self._embedded, self._last_loaded)
        for source in self.engine.sources:
            if self.engine.weight_bytes <= self._settings.memory_mb * MB:
                return
            if source in pinned or self.engine.is_in_use(source):
                continue
            if self.engine.takes_memory(source):
                self.engine.evict(source)
                self.send(ModelUnloaded(source))

    def _drop_caches(self) -> None:
        self.engine.drop_caches()
        for requests in self._awaiting_load.values():
            requests[:] = [
                replace(one, channel=0) if isinstance(one, Generate) else one for one in requests
            ]

    def _abort(self, request_id: int) -> None:
        self.engine.abort(request_id)
        for requests in self._awaiting_load.values():
            requests[:] = [one for one in requests if one.request_id != request_id]

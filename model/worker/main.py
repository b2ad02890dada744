"""The worker process: takes commands from a pipe, runs the engine, says what comes of it.

`main` is started by `model.worker.client` with multiprocessing's "spawn". Models are loaded in threads of
their own, so replies go on meanwhile. SIGINT is the parent's business (a terminal sends it to
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
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from jinja2 import TemplateError

from core.logging import set_up, speaking_of
from i18n.phrase import phrase, words
from model.convert.build import name
from model.engine.engine import MB, SHORT_OF_MEMORY, Busy, Engine
from model.errors import LoadFailed
from model.loading import Loaded, load
from model.runners.device import Device, best_device, cores
from model.settings import WorkerSettings
from model.worker.messages import (
    Abort,
    Command,
    Failed,
    Generate,
    LoadModel,
    ModelLoaded,
    Ping,
    Pong,
    Prepare,
    Ready,
    Render,
    Shutdown,
    Unloaded,
)
from model.worker.outbox import Outbox

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A loading thread has ended."""

    source: str
    result: Loaded | LoadFailed


def main(connection: Connection, settings: WorkerSettings, embedded: str) -> None:
    """Run until told to stop."""
    _calm(settings, secret=os.environ.pop("DISCORD_TOKEN", "").strip())
    commands: queue.SimpleQueue[Command | _Loaded] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: commands.put(Shutdown(settings.drain_s)))
    device = best_device(settings.precision)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        worker = Worker(connection, commands, device, settings, embedded, Path(folder))
        try:
            first = worker.load(embedded)
        except LoadFailed as e:
            worker.say(Failed(0, words(e), loading=True))
            return
        worker.engine.install(first)
        worker.say(Ready(os.getpid(), device.name, device.training, first.facts))
        threading.Thread(target=_listen, args=(connection, commands), daemon=True).start()
        worker.run()


def _calm(settings: WorkerSettings, secret: str) -> None:
    """The bot's loop goes first, and nothing but our log is written to the operator's terminal."""
    set_up(settings.log_level, settings.log_format, [secret])
    if hasattr(os, "nice"):
        os.nice(5)


def _listen(connection: Connection, commands: queue.SimpleQueue[Command | _Loaded]) -> None:
    try:
        while True:
            commands.put(connection.recv())
    except (EOFError, OSError):
        commands.put(Shutdown(0))


class Worker:
    """Dispatches commands; keeps as many models resident as `settings.memory_mb` holds.

    `folder` is for models that were made ready to run, unless the settings have one.
    """

    def __init__(
        self,
        connection: Connection,
        commands: queue.SimpleQueue[Command | _Loaded],
        device: Device,
        settings: WorkerSettings,
        embedded: str,
        folder: Path,
    ) -> None:
        outbox = Outbox(connection)
        self.say = outbox.put
        self._pieces_due = outbox.flush_due
        self.engine = Engine(self.say, settings)
        self._commands = commands
        self._settings = settings
        self._embedded = embedded
        self.load = partial(
            load,
            device=device,
            cache=settings.built or folder,
            rows=settings.max_sequences,
            threads=settings.threads or cores(),
        )
        self._waiting: dict[str, list[LoadModel | Generate | Render]] = defaultdict(list)
        self._stop_at: float | None = None
        self._newest = embedded

    def run(self) -> None:
        """Take commands between steps; sleep only when there is nothing to do."""
        while not self._is_over():
            while not self.engine.busy or not self._commands.empty():
                self.handle(self._commands.get())
                if self._is_over():
                    return
            self.engine.step()
            self._pieces_due()
            self._make_room()

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        return not self.engine.answering or time.monotonic() >= self._stop_at

    def handle(self, command: Command | _Loaded) -> None:
        """Do, or begin, what a command asks for."""
        match command:
            case LoadModel(source=source):
                self._load(source, command)
            case Generate(source=source) | Render(source=source):
                self._when_resident(source, command)
            case Prepare():
                self._prepare(command)
            case Abort(request_id=request_id):
                self._abort(request_id)
            case Ping(request_id=request_id):
                self.say(Pong(request_id))
            case _Loaded(source=source, result=result):
                self._loaded(source, result)
            case Shutdown(drain_s=seconds):
                self._stop_at = time.monotonic() + seconds

    def _when_resident(self, source: str, request: Generate | Render) -> None:
        if self._stop_at is not None:
            closing = phrase("I am shutting down; please ask again later.")
            self.say(Failed(request.request_id, closing))
        elif source not in self.engine.sources:
            self._load(source, request)
        else:
            self._begin(request)

    def _prepare(self, request: Prepare) -> None:
        with contextlib.suppress(TemplateError, MemoryError):  # the reply itself will say so
            self.engine.prepare(request)

    def _begin(self, request: Generate | Render) -> None:
        try:
            if isinstance(request, Generate):
                with speaking_of(request.log_id):
                    self.engine.submit(request)
            else:
                self.engine.render(request)
        except Busy as e:
            self.say(Failed(request.request_id, words(e)))
        except MemoryError:
            log.exception("a prompt could not be made")
            self.say(Failed(request.request_id, SHORT_OF_MEMORY))
        except ValueError as e:
            reason = phrase("That cannot be answered: {why}.", why=e)
            self.say(Failed(request.request_id, reason))
        except TemplateError as e:
            who = name(request.source)
            reason = phrase("The chat template of {who} does not take that: {why}.", who=who, why=e)
            self.say(Failed(request.request_id, reason))

    def _load(self, source: str, request: LoadModel | Generate | Render) -> None:
        under_way = source in self._waiting
        self._waiting[source].append(request)
        if not under_way:
            threading.Thread(target=self._load_in_thread, args=(source,), daemon=True).start()

    def _load_in_thread(self, source: str) -> None:
        try:
            result: Loaded | LoadFailed = self.load(source)
        except LoadFailed as e:
            result = e
        except Exception as e:  # a thread that ends without a word would leave requests waiting
            log.exception("loading %s failed", source)
            error = type(e).__name__
            result = LoadFailed(phrase("The model could not be loaded ({error}).", error=error))
        self._commands.put(_Loaded(source, result))

    def _loaded(self, source: str, result: Loaded | LoadFailed) -> None:
        requests = self._waiting.pop(source)
        if isinstance(result, LoadFailed):
            for request in requests:
                self.say(Failed(request.request_id, words(result), loading=True))
            return
        self.engine.install(result)
        self._newest = source
        self._make_room()
        for request in requests:
            if isinstance(request, LoadModel):
                self.say(ModelLoaded(request.request_id, result.facts))
            else:
                self._when_resident(source, request)

    def _make_room(self) -> None:
        for source in self.engine.sources:
            if self.engine.weight_bytes <= self._settings.memory_mb * MB:
                return
            if source not in (self._embedded, self._newest) and not self.engine.is_in_use(source):
                self.engine.evict(source)
                self.say(Unloaded(source))

    def _abort(self, request_id: int) -> None:
        self.engine.abort(request_id)
        for requests in self._waiting.values():
            requests[:] = [one for one in requests if one.request_id != request_id]

"""One worker process: starts it, transports its messages, ends it.

Knows the pipe and the process, not what the messages mean. Imports no torch. One thread reads the
pipe and passes events to the event loop, another writes to it, so that neither a silent worker nor
one that reads no commands blocks the bot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from i18n.phrase import phrase
from model.errors import WorkerDied
from model.settings import WorkerSettings
from model.worker.messages import Command, Ready, WorkerEvents
from model.worker.running_models import RunningModels

log = logging.getLogger(__name__)


Entry = Callable[[Connection, RunningModels, WorkerSettings, str], None]
"""What the child runs: given its end of the pipe, it takes commands and sends events."""


class WorkerProcess:
    """A worker process, its pipe, and the threads that read and write it."""

    def __init__(self, settings: WorkerSettings, embedded: str, entry: Entry) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.running_models = RunningModels(context, settings.max_sequences)
        self._process = context.Process(
            target=_enter,
            args=(entry, theirs, self.running_models, settings, embedded),
            name="gpt2bot-worker",
            daemon=True,
        )
        try:
            self._process.start()
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.started_at = time.monotonic()
        self.handshake: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._end_task: asyncio.Future[None] | None = None

    def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        on_events: Callable[[WorkerProcess, WorkerEvents], None],
        on_end: Callable[[WorkerProcess], None],
    ) -> None:
        """Start the threads; the callbacks run in the loop, `on_end` after the last event."""

        def read() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                try:
                    while True:
                        events = self._connection.recv()
                        loop.call_soon_threadsafe(on_events, self, events)
                except (EOFError, OSError):
                    loop.call_soon_threadsafe(on_end, self)

        for work, name in ((read, "reader"), (self._write_commands, "writer")):
            thread = threading.Thread(target=work, name=f"gpt2bot-worker-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _write_commands(self) -> None:
        """Send the queued commands; if the process is gone, the reader reports its end."""
        with contextlib.suppress(OSError):
            while (command := self._commands.get()) is not None:
                self._connection.send(command)

    def send(self, command: Command) -> None:
        """Queue a command; returns at once."""
        self._commands.put(command)

    def kill(self) -> None:
        """Kill it; `on_end` follows, as after a crash."""
        self._process.kill()

    async def end(self, seconds: float) -> None:
        """Wait some seconds for its end, then kill it; joins the threads and closes the pipe."""
        if self._end_task is None:
            self._end_task = asyncio.ensure_future(asyncio.to_thread(self._end, seconds))
        await asyncio.shield(self._end_task)
        self._connection.close()
        if not self.handshake.done():
            self.handshake.set_exception(WorkerDied(phrase("The model's process was ended.")))

    def _end(self, seconds: float) -> None:
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._commands.put(None)
        for thread in self._threads:
            thread.join()
        self._process.close()


def _enter(
    entry: Entry,
    connection: Connection,
    running: RunningModels,
    settings: WorkerSettings,
    embedded: str,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    try:
        entry(connection, running, settings, embedded)
    except Exception:  # multiprocessing would print it without masking secrets
        log.critical("the worker failed", exc_info=True)
        sys.exit(1)


def run_worker(
    connection: Connection, running: RunningModels, settings: WorkerSettings, embedded: str
) -> None:
    """The entry of a worker: its libraries are imported here, in the child alone."""
    from model.worker.main import main

    main(connection, running, settings, embedded)

"""One life of the worker process: it is started, spoken to, and ended without a trace.

Knows the pipe and the process, not what the messages mean. Imports no torch. A thread of its own
reads the pipe and hands each report to the event loop, and another one writes to it: so neither
waiting for reports nor a worker that takes no commands ever blocks the bot.
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

log = logging.getLogger(__name__)


class WorkerProcess:
    """One life of the worker: the process, its pipe, and the thread that reads it."""

    def __init__(self, settings: WorkerSettings, embedded: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_run_worker,
            args=(theirs, settings, embedded),
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
        on_reports: Callable[[WorkerProcess, WorkerEvents], None],
        on_end: Callable[[WorkerProcess], None],
    ) -> None:
        """Hand reports as they come, and then the end, to the loop."""

        def read() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
                try:
                    while True:
                        reports = self._connection.recv()
                        loop.call_soon_threadsafe(on_reports, self, reports)
                except (EOFError, OSError):
                    loop.call_soon_threadsafe(on_end, self)

        for work, name in ((read, "reader"), (self._write_commands, "writer")):
            thread = threading.Thread(target=work, name=f"gpt2bot-worker-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _write_commands(self) -> None:
        """Send what is to be sent; if the process is gone, its end is on the way already."""
        with contextlib.suppress(OSError):
            while (command := self._commands.get()) is not None:
                self._connection.send(command)

    def send(self, command: Command) -> None:
        """Send a command, after those before it; returns at once."""
        self._commands.put(command)

    def kill(self) -> None:
        """End it at once, whatever it is doing; that is heard of as after a crash."""
        self._process.kill()

    async def end(self, seconds: float) -> None:
        """Give it some seconds to end by itself, then insist; nothing of it is left."""
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


def _run_worker(connection: Connection, settings: WorkerSettings, embedded: str) -> None:
    """The child's entry: torch is imported here, in the child alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    from model.worker.main import main

    try:
        main(connection, settings, embedded)
    except Exception:  # multiprocessing would write it as it is, secrets and all
        log.critical("the worker ends with an error", exc_info=True)
        sys.exit(1)

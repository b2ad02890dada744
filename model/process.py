"""One life of the worker process: it is started, spoken to, and ended without a trace.

Knows the pipe and the process, not what the messages mean. Imports no torch. A thread of its own
reads the pipe and hands each report to the event loop, so waiting never blocks the bot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from model.errors import WorkerDied
from model.messages import Command, Ready, Reports
from model.settings import WorkerSettings

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
        self.born = time.monotonic()
        self.handshake: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._reader: threading.Thread | None = None
        self._ending: asyncio.Future[None] | None = None

    def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        on_reports: Callable[[WorkerProcess, Reports], None],
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

        self._reader = threading.Thread(target=read, name="gpt2bot-worker-reader", daemon=True)
        self._reader.start()

    def send(self, command: Command) -> None:
        """Send a command; if the process is gone, its end is on the way already."""
        with contextlib.suppress(OSError):
            self._connection.send(command)

    async def end(self, seconds: float) -> None:
        """Give it some seconds to end by itself, then insist; nothing of it is left."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(asyncio.to_thread(self._end, seconds))
        await asyncio.shield(self._ending)
        self._connection.close()
        if not self.handshake.done():
            self.handshake.set_exception(WorkerDied("The model's process was ended."))

    def _end(self, seconds: float) -> None:
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self._reader is not None:
            self._reader.join()
        self._process.close()


def _run_worker(connection: Connection, settings: WorkerSettings, embedded: str) -> None:
    """The child's entry: torch is imported here, in the child alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    from model.worker import main

    try:
        main(connection, settings, embedded)
    except Exception:  # multiprocessing would write it as it is, secrets and all
        log.critical("the worker ends with an error", exc_info=True)
        sys.exit(1)

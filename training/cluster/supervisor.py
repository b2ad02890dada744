"""The supervisor of a driver: passes on what that tells and hears, and says so when Ray ended it.

Ray may end a process that is connected to it at any moment, as when the cluster's head restarts, or
when the node that it joins only starts. So the one that is connected is a child of this process
(`training.cluster.driver`). Knows that child and its pipes. Imports no Ray.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from core.cluster.connection import NO_ANSWER
from training.jobs.events import Event, Failed, Lost, Waiting, from_line

log = logging.getLogger(__name__)

DRIVER = (sys.executable, "-m", "training.cluster.driver")
REACH_S = 600.0
"""Seconds for which a run waits for a cluster that is away, as while its head restarts."""
STABLE_S = 60.0
"""After how long a driver had a cluster, so that the wait for one begins anew."""
RETRY_S = 2.0
"""Seconds until the next driver starts."""
LAST_WORD = re.compile(r"ended (-?\d+)\s*")
"""The last line of a driver: the exit status of the run, below 0 the number of the signal."""


def last_word(status: int) -> str:
    """What a driver writes before it ends by itself."""
    return f"ended {status}\n"


class Supervisor:
    """Has a driver follow a run: another one as long as nothing has begun. `command` is followed by
    the driver's arguments; `tell` passes an event to the bot."""

    def __init__(
        self, command: Sequence[str], tell: Callable[[Event], None], reach_s: float = REACH_S
    ) -> None:
        self._command = command
        self._tell = tell
        self._reach_s = reach_s
        self._driver: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._lock = threading.Lock()
        self._has_begun = self._is_stopped = False

    def run(self) -> int:
        """Follow the run to its end; returns its exit status."""
        began = time.monotonic()
        deadline = began + self._reach_s
        while (status := self._drive()) is None:
            if self._is_stopped:
                return 128 + signal.SIGTERM
            if self._has_begun:
                self._tell(Lost())
                return 1
            if (ended := time.monotonic()) - began > STABLE_S:
                deadline = ended + self._reach_s
            if ended > deadline:
                self._tell(Failed(NO_ANSWER, resumable=True))
                return 1
            time.sleep(RETRY_S)
            began = time.monotonic()
        return status

    def _drive(self) -> int | None:
        """The exit status of the run; None if the driver ended without it."""
        with self._start() as driver:
            assert driver.stdout is not None
            for line in driver.stdout:
                text = line.decode("utf-8", "replace")
                if (found := LAST_WORD.fullmatch(text)) is not None:
                    return int(found[1])
                if (event := from_line(text)) is not None:
                    self._has_begun = self._has_begun or not isinstance(event, Waiting)
                    self._tell(event)
        log.warning("the driver of the training was ended, with status %d", driver.returncode)
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            self._driver = driver = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            _write(driver, self._said)
        if self._is_stopped:
            driver.terminate()
        return driver

    def listen(self, stdin: int = 0) -> None:
        """Pass on what stdin says; its end means that the bot is gone: save, and end too."""
        while words := os.read(stdin, 1 << 12):
            self._pass_on(words)
        self._pass_on(b"pause\n")

    def _pass_on(self, words: bytes) -> None:
        with self._lock:
            self._said += words
            if self._driver is not None:
                _write(self._driver, words)

    def stop(self) -> None:
        """Have the driver end at once, and the run with it."""
        self._is_stopped = True
        if self._driver is not None:
            self._driver.terminate()


def _write(driver: subprocess.Popen[bytes], words: bytes) -> None:
    assert driver.stdin is not None
    with suppress(OSError, ValueError):  # it has ended
        os.write(driver.stdin.fileno(), words)

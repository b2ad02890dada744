"""The parent's side of a training process: start it, control it, read its events, stop it.

Knows the process, its pipes and the lines on them. Does not know jobs, storage or tensors. Control
words go through the child's stdin, so if this process dies, the child reads the end of it, saves
a step checkpoint and ends too.
"""

from __future__ import annotations

import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from core.logging import LogFormat, configure_logging
from core.subprocesses import child_environment, child_process, stop_process
from training.jobs.events import Event, from_line
from training.jobs.folder import LOG_FILE
from training.jobs.launch import ControlWord

KILL_TIMEOUT_S = 5.0
"""Seconds between asking a child to end and ending it."""
MAX_LINE_BYTES = 1 << 20
"""Bytes of a line on the child's stdout."""

MALLOC_ENV = {"MALLOC_MMAP_THRESHOLD_": "1048576"}
"""With glibc, large tensors go back to the system once they are freed, instead of leaving holes:
without it, fine-tuning gpt2 peaks a fifth higher (mallopt(3), M_MMAP_THRESHOLD)."""

LOG_FORMAT_VARIABLE = "LOG_FORMAT"
"""The variable that tells a run how its log is written (`core.logging.LogFormat`)."""


def configure_child_logging() -> None:
    """In a child that was launched here: log as its parent wants it."""
    as_json = os.environ.get(LOG_FORMAT_VARIABLE) == "json"
    configure_logging("WARNING", "json" if as_json else "text")


def launcher_command(config: Path | None) -> tuple[str, ...]:
    """The launcher for several devices, by a file that `accelerate config` wrote; () without."""
    if config is None:
        return ()
    return (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config))


def _environment(launcher: Sequence[str], log_format: LogFormat) -> dict[str, str]:
    """Ours, without secrets, and how the log is written. Without a launcher the run is for one
    device: several would share each batch among them (torch's DataParallel), of which its steps
    know nothing."""
    one_device = {} if launcher else {"CUDA_VISIBLE_DEVICES": "0"}
    return MALLOC_ENV | one_device | child_environment() | {LOG_FORMAT_VARIABLE: log_format}


class TrainingProcess:
    """A training run in a process of its own."""

    def __init__(self, process: Process, grace_s: float = 0) -> None:
        self._process = process
        self._grace_s = grace_s

    @classmethod
    @asynccontextmanager
    async def launch(
        cls,
        job: Path,
        launcher: Sequence[str] = (),
        log_format: LogFormat = "text",
        grace_s: float = 0,
    ) -> AsyncIterator[TrainingProcess]:
        """Run JOB_DIR; at the end of the block the process is gone, whatever it was doing.

        `launcher` is what starts it on several devices, such as `accelerate launch` and its
        options; without one it is this Python. `grace_s` is the time that a kill leaves it to end
        what it started. The child's log goes to JOB_DIR/log.txt."""
        with (job / LOG_FILE).open("ab") as errors:
            child = child_process(
                [*(launcher or (sys.executable,)), "-m", "training.run", str(job)],
                grace_s=KILL_TIMEOUT_S,
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env=_environment(launcher, log_format),
                limit=MAX_LINE_BYTES,
            )
            async with child as process:
                yield cls(process, grace_s)

    @property
    def pid(self) -> int:
        """The process id (of the launcher, where there is one)."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status; below 0 the number of the signal that ended it; None while it runs."""
        return self._process.returncode

    async def events(self) -> AsyncIterator[Event]:
        """What the run tells, until it ends."""
        assert self._process.stdout is not None  # a pipe was asked for
        async for line in self._process.stdout:
            if event := from_line(line.decode("utf-8", "replace")):
                yield event
        await self._process.wait()

    def send(self, word: ControlWord) -> None:
        """Say something to the run; it listens between two steps."""
        assert self._process.stdin is not None
        if self._process.returncode is None:
            with suppress(ConnectionError, RuntimeError):  # its end is on the way
                self._process.stdin.write(f"{word}\n".encode())

    async def kill(self) -> None:
        """Kill the process, and those that it launched, at once."""
        await stop_process(self._process, self._grace_s)

"""Runs `gpt2bot` in a process of its own, which is forked from one that has imported the package.

A fresh interpreter would spend a second on imports for each command.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[3]
MAIN = "from bot.__main__ import main; main()"
TIMEOUT_S = 600
"""Seconds after which a command hangs; the longest train."""
FLAGS = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
NOT_CONTROLLING = getattr(os, "O_NOCTTY", 0)

_FORKING = "forkserver" in multiprocessing.get_all_start_methods()
_text = partial(open, encoding="utf-8", closefd=False)
_processes = multiprocessing.get_context("forkserver" if _FORKING else "spawn")
if _FORKING:  # what reads its settings from the environment on import must not be among these
    multiprocessing.set_forkserver_preload(
        [
            *("bot.__main__", "bot.run", "bot.cli.chat", "bot.cli.dataset.files"),
            *("bot.cli.doctor.command", "bot.cli.train.run"),
        ]
    )


@dataclass(frozen=True, slots=True)
class Command:
    """Runs `gpt2bot` in an empty folder, with nothing of this machine's settings."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "",
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONUTF8": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }

    def __call__(
        self, *arguments: str, said: str = "", code: str = MAIN, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `code` with these arguments and this input, to its end."""
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder, name) for name in "012"]
            streams[0].write_text(said, encoding="utf-8")
            process = self._start([str(one) for one in streams], arguments, code, env)
            process.join(TIMEOUT_S)
            if process.exitcode is None:
                process.kill()
                raise subprocess.TimeoutExpired(arguments, TIMEOUT_S)
            out, errors = (one.read_text(encoding="utf-8") for one in streams[1:])
        return subprocess.CompletedProcess(arguments, process.exitcode, out, errors)

    def at_terminal(
        self, terminal: str, *arguments: str, code: str = MAIN, **env: str
    ) -> BaseProcess:
        """Start `code` at a terminal, by its path. It is not the one that controls the process:
        Ctrl-C is a signal for the test to send."""
        return self._start([terminal] * 3, arguments, code, env)

    def _start(
        self, streams: Sequence[str], arguments: Sequence[str], code: str, env: Mapping[str, str]
    ) -> BaseProcess:
        process: BaseProcess = _processes.Process(
            target=_run,
            args=(streams, self.folder, {**self.environment, **env}, code, arguments),
        )
        process.start()
        return process


def _run(
    streams: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    code: str,
    arguments: Sequence[str],
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if hasattr(os, "setsid"):  # else a password would be asked for at the terminal of the tests
        os.setsid()
    for number, (path, flags) in enumerate(zip(streams, FLAGS, strict=True)):
        os.dup2(os.open(path, flags | NOT_CONTROLLING), number)
    sys.stdin = _text(0)
    sys.stdout = _text(1, "w")
    sys.stderr = _text(2, "w", buffering=1)
    sys.argv = ["gpt2bot", *arguments]
    exec(code, {"__name__": "__main__"})

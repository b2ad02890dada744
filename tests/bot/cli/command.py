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
from pathlib import Path

ROOT = Path(__file__).parents[3]
MAIN = "from bot.__main__ import main; main()"
TIMEOUT_S = 600
"""Seconds after which a command hangs; the longest train."""
STREAMS = {0: os.O_RDONLY, 1: os.O_WRONLY | os.O_CREAT, 2: os.O_WRONLY | os.O_CREAT}

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
            streams = Path(folder)
            (streams / "0").write_text(said, encoding="utf-8")
            process = _processes.Process(
                target=_run,
                args=(streams, self.folder, {**self.environment, **env}, code, arguments),
            )
            process.start()
            process.join(TIMEOUT_S)
            if process.exitcode is None:
                process.kill()
                raise subprocess.TimeoutExpired(arguments, TIMEOUT_S)
            out, errors = ((streams / name).read_text(encoding="utf-8") for name in "12")
        return subprocess.CompletedProcess(arguments, process.exitcode, out, errors)


def _run(
    streams: Path, folder: Path, environment: Mapping[str, str], code: str, arguments: Sequence[str]
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, flags in STREAMS.items():
        os.dup2(os.open(streams / str(number), flags), number)
    sys.stdin = _text(0)
    sys.stdout = _text(1, "w")
    sys.stderr = _text(2, "w", buffering=1)
    sys.argv = ["gpt2bot", *arguments]
    exec(code, {"__name__": "__main__"})

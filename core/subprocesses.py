"""Starts child processes, and makes sure that none is left behind.

If the parent may be killed, the child notices by its stdin, which then ends. The child itself sets
its memory limit and, except on Windows, its priority (`lower_priority`). The worker
(`model.worker.process`) is started by `multiprocessing` instead: only that passes it the
`Connection` of its messages on every system. It drops the bot's secrets itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

PROJECT_ROOT = Path(__file__).parents[1]
SECRET_VARIABLES = frozenset({"DISCORD_TOKEN", "DATABASE_KEY", "DISCORD_CLIENT_SECRET"})
"""Environment variables that no child inherits."""
LAUNCHER_VARIABLES = re.compile(
    r"((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)"
    r"|(TORCHELASTIC|OMPI_COMM_WORLD|MV2_COMM_WORLD|PMI|ACCELERATE_USE)_.*"
)
"""What `torchrun`, `accelerate launch` or `mpirun` tell the process that they started. A child that
inherited it would wait for the others, or take itself for one of them."""
LAUNCH_OPTIONS: Mapping[str, Any] = {
    "creationflags": getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
    "start_new_session": True,  # Ctrl-C in a terminal is left to the parent
}
"""Options of every child, for asyncio and for `subprocess.Popen`."""


AUTOGROUP = Path("/proc/self/autogroup")
"""Linux's priority of a session among the others (sched(7), "The autogroup feature")."""


def lower_priority(nice: int) -> None:
    """Let this process, a child that we started, give way to the bot and its worker.

    Where Linux schedules sessions as groups, niceness only counts within one; a child leads its
    own (`LAUNCH_OPTIONS`), so the group is made as nice. Nothing happens on Windows.
    """
    if not hasattr(os, "nice"):
        return
    os.nice(nice)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # this system has no such groups
            AUTOGROUP.write_text(str(nice), encoding="ascii")


def own_stdout() -> TextIO:
    """The original stdout, for what is meant to be read there; all other output of this process and
    of those that it starts goes to stderr from now on: a library may print."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out


def child_environment() -> dict[str, str]:
    """Our environment without secrets and without a launcher's variables; `python -m` finds the
    project's modules in it."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name not in SECRET_VARIABLES and not LAUNCHER_VARIABLES.fullmatch(name)
    }
    paths = filter(None, (str(PROJECT_ROOT), os.environ.get("PYTHONPATH")))
    return ours | {"PYTHONPATH": os.pathsep.join(paths)}


@asynccontextmanager
async def child_process(
    command: Sequence[str], *, grace_s: float = 0, **options: Any
) -> AsyncIterator[Process]:
    """Run a command until the end of the block; after `grace_s` more seconds it is killed.

    `options` are those of `asyncio.create_subprocess_exec`; `env` defaults to `child_environment`.
    """
    options = {"env": child_environment(), **LAUNCH_OPTIONS, **options}
    process = await asyncio.create_subprocess_exec(*command, **options)
    try:
        yield process
    finally:
        await stop_process(process, grace_s)


async def stop_process(process: Process, grace_s: float = 0) -> None:
    """Terminate a child; after `grace_s` seconds, kill it and its children."""
    with suppress(ProcessLookupError):
        if process.returncode is None and grace_s:
            process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await process.wait()
        if process.returncode is None:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a session
            else:
                process.kill()
    await process.wait()

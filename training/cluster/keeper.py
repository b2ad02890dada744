"""`python -m training.cluster.keeper PARENT HOME COMMAND…`: runs a command that must not outlive
its parent, and neither must the folder that it works in.

Ray ends a process of its own at any moment, and its children with it. So there are three: the
keeper, which on Linux the kernel ends with its parent; the command; and a cleaner, which reads a
pipe from the keeper. When that ends without a word, the cleaner ends the command and removes the
folder. The exit status is the command's. Imports nothing heavy.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
DONE = b"."
"""What the cleaner hears when there is nothing to clean."""


def main(parent: int, home: Path, command: list[str]) -> int:
    """Run the command; returns its exit status, below 0 the number of the signal that ended it."""
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    heard, told = os.pipe()
    if (cleaner := os.fork()) == 0:
        os.close(told)
        _clean(heard, child.pid, home)
    os.close(heard)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)
    status = child.wait()
    os.write(told, DONE)
    os.waitpid(cleaner, 0)
    return status


def _clean(heard: int, child: int, home: Path) -> None:
    """Wait for the keeper to end; if it was killed, so is the command, and its folder removed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.read(heard, 1) != DONE:
        os.kill(child, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _end_as(status: int) -> None:
    """End as the command did, so that the parent sees the same."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    _end_as(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))

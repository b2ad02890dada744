"""Limits that a child process sets itself before it works on what strangers sent, and memory
that is given back.

Where the system has no such limits (Windows), only the deadline of the parent holds.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import suppress
from typing import Literal

import psutil


def lower_limit(kind: Literal["AS", "CORE", "CPU", "FSIZE"], size: int) -> None:
    """Lower the limit RLIMIT_`kind` of this process to `size`, unless it is that low already."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    number = getattr(resource, f"RLIMIT_{kind}")
    soft, hard = resource.getrlimit(number)
    if soft == resource.RLIM_INFINITY or soft > size:
        with suppress(OSError, ValueError):  # macOS has a limit of memory but refuses to set it
            resource.setrlimit(number, (size, hard))


def limit_resources(*, memory: int, cpu_s: float, file_bytes: int) -> None:
    """Limit what this process may still take: bytes of address space and seconds of processor
    time beyond what it has, and the size of each file that it writes.

    Without memory it gets MemoryError, with too large a file OSError; out of time, it is killed.
    """
    process = psutil.Process()
    used = process.cpu_times()
    lower_limit("AS", process.memory_info().vms + memory)
    lower_limit("CPU", int(used.user + used.system + cpu_s) + 1)
    lower_limit("FSIZE", file_bytes)
    lower_limit("CORE", 0)


def end_with_parent() -> None:
    """End this process when its stdin does, as it does when the parent was killed."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1):  # not sys.stdin, whose lock the interpreter's end would wait for
                pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def trim_heap() -> None:
    """Return to the system what malloc keeps of freed memory, where malloc can (glibc)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)

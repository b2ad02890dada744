"""Limits that a child process sets itself before it works on what strangers sent.

Where the system has no such limits (Windows), only the deadline of the parent holds.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import psutil


def limit_resources(*, memory: int, cpu_s: float, file_bytes: int) -> None:
    """Limit what this process may still take: bytes of address space and seconds of processor
    time beyond what it has, and the size of each file that it writes.

    Without memory it gets MemoryError, with too large a file OSError; out of time, it is killed.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        resource.RLIMIT_AS: psutil.Process().memory_info().vms + memory,
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime + cpu_s) + 1,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, size in limits.items():
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY or hard > size:
            with suppress(OSError, ValueError):  # macOS has a limit of memory but refuses to set it
                resource.setrlimit(kind, (size, hard))


def end_with_parent() -> None:
    """End this process when its stdin does, as it does when the parent was killed."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1):  # not sys.stdin, whose lock the interpreter's end would wait for
                pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

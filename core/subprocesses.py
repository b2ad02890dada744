"""What is the same for every child process: the environment that it gets, and its end.

Knows processes. Does not know what they do.
"""

from __future__ import annotations

import os
from asyncio.subprocess import Process
from contextlib import suppress

SECRET_VARIABLES = frozenset({"DISCORD_TOKEN"})
"""Variables that are no child's business."""


def child_environment() -> dict[str, str]:
    """Ours, without secrets."""
    return {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}


async def kill_and_wait(process: Process) -> None:
    """End a child at once, if it has not ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

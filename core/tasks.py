"""Background tasks: kept referenced, because asyncio holds only weak references to tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Self

log = logging.getLogger(__name__)


class BackgroundTasks:
    """Holds running tasks, logs their failures, and ends them together: by `close`, or at the end
    of its block with `grace_s`."""

    def __init__(self, grace_s: float = 0.0) -> None:
        self._grace_s = grace_s
        self._running: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(self._grace_s)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run `work` in the background; its exception is logged when it ends."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("the background task %s failed", task.get_name(), exc_info=error)

    async def close(self, grace_s: float = 0.0) -> None:
        """Give the tasks `grace_s` seconds, then cancel the rest and wait until they have ended."""
        if self._running and grace_s:
            await asyncio.wait(self._running, timeout=grace_s)
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

"""Periodic tasks, and the one that deletes what is older than RETENTION_DAYS."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from data.storage.erasure import purge_older_than
from data.storage.storage import Storage

log = logging.getLogger(__name__)

HOUR_S, DAY_S = 3600.0, 86_400.0
TASK_RETRY_S = 600.0
"""Seconds after which a failed task is retried."""


class GuardedClock:
    """The time in UTC, or None if it is implausible: a wrong clock must not delete data."""

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = steady
        self._last: tuple[datetime, float] | None = None

    def __call__(self) -> datetime | None:
        """None if the clock has advanced by over a day more than the monotonic clock since the last
        call. (So it does when the machine was suspended for days; the next call is trusted.)"""
        now, ticks = self._clock(), self._monotonic()
        last, self._last = self._last, (now, ticks)
        if last and (now - last[0]).total_seconds() - (ticks - last[1]) > DAY_S:
            return None
        return now


async def purge_expired(storage: Storage, days: int, clock: Callable[[], datetime | None]) -> int:
    """Delete messages and records of replies older than `days`, and return how many.

    Nothing is deleted while the time is implausible (`clock` returns None).

    Raises:
        StoreError: what was deleted before the error stays deleted.
    """
    now = clock()
    if now is None:
        log.warning("the clock was set forward by more than a day: nothing is erased today")
        return 0
    erased = await purge_older_than(storage, now - timedelta(days=days))
    if erased:
        await storage.erasures.truncate_wal()
        log.info("erased %d messages and records older than %d days", erased, days)
    return erased


async def run_periodically(
    chore: Callable[[], Awaitable[object]],
    every_s: float,
    name: str,
    wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Run the task now and every `every_s` seconds; a failure is logged and retried."""
    while True:
        pause = every_s
        try:
            await chore()
        except Exception:  # one failure must not end the loop
            log.exception("%s failed, next attempt in %.0f s", name, TASK_RETRY_S)
            pause = TASK_RETRY_S
        await wait(pause)

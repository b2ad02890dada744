"""What the bot does at its start and again and again: such as erasing what is too old.

Knows how often, and how long something is kept. Does not know what is kept, or Discord.
"""

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
"""Seconds after which a chore that failed is tried again."""

Wait = Callable[[float], Awaitable[object]]


def utc_now() -> datetime:
    return datetime.now(UTC)


class GuardedClock:
    """The time in UTC, unless it is in doubt: what was erased by a wrong clock is gone for ever."""

    def __init__(
        self,
        clock: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = steady
        self._last: tuple[datetime, float] | None = None

    def __call__(self) -> datetime | None:
        """None if, since the last call, the clock went on by a day more than one does that nobody
        sets (a machine that slept for days looks alike: then the next call counts)."""
        now, ticks = self._clock(), self._monotonic()
        last, self._last = self._last, (now, ticks)
        if last and (now - last[0]).total_seconds() - (ticks - last[1]) > DAY_S:
            return None
        return now


async def purge_expired(
    storage: Storage, days: int, clock: Callable[[], datetime | None] = utc_now
) -> int:
    """Erase messages and records of replies that are older than so many days; how many.

    Nothing is erased while the time is in doubt (`clock` gives None).

    Raises:
        StoreError: what was erased until then is gone.
    """
    now = clock()
    if now is None:
        log.warning("the clock was set forward by more than a day: nothing old is erased today")
        return 0
    erased = await purge_older_than(storage, now - timedelta(days=days))
    if erased:
        await storage.erasures.truncate_wal()
        log.info("erased %d messages and records older than %d days", erased, days)
    return erased


async def run_periodically(
    chore: Callable[[], Awaitable[object]], every_s: float, name: str, wait: Wait = asyncio.sleep
) -> None:
    """Do the chore now and every so many seconds; what goes wrong is logged and tried again."""
    while True:
        pause = every_s
        try:
            await chore()
        except Exception:  # it must outlive whatever goes wrong with it once
            log.exception("%s failed and is tried again in %.0f s", name, TASK_RETRY_S)
            pause = TASK_RETRY_S
        await wait(pause)

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
    """The time in UTC, or None if it is implausible: a wrong clock must not delete data.

    It is compared with the `last` time that was known to be right, maybe in an earlier run of the
    bot. If it differs by more than a day, it is trusted once Discord's time (`witness`, that of the
    newest message) confirms it: so after the machine was suspended, or the bot stopped, for days.
    """

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        steady: Callable[[], float] = time.monotonic,
        *,
        last: datetime | None = None,
        witness: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._monotonic = steady
        self._witness = witness
        self._last = last
        self._ticks: float | None = None

    def __call__(self) -> datetime | None:
        now, ticks = self._clock(), self._monotonic()
        if self._last is not None:
            passed = 0.0 if self._ticks is None else ticks - self._ticks
            known = (self._last + timedelta(seconds=passed), self._witness())
            if not any(one and abs((now - one).total_seconds()) <= DAY_S for one in known):
                return None
        self._last, self._ticks = now, ticks
        return now


async def purge_expired(storage: Storage, days: int, clock: Callable[[], datetime | None]) -> int:
    """Delete messages and records of replies and introductions older than `days`; return how many.

    Nothing is deleted while the time is implausible (`clock` returns None). SQLite's log is emptied
    in any case: it may still hold what was deleted since the last call.

    Raises:
        StoreError: what was deleted before the error stays deleted.
    """
    now, erased = clock(), 0
    if now is None:
        log.warning(
            "the clock was set forward or back by more than a day: nothing old is erased until a "
            "message from Discord confirms the time"
        )
    else:
        await storage.marks.set_trusted_time(now)
        await storage.erasures.correct_future(now)
        erased = await purge_older_than(storage, now - timedelta(days=days))
    await storage.erasures.truncate_wal()
    if erased:
        log.info("erased %d messages and records older than %d days", erased, days)
    return erased


async def last_known_time(storage: Storage) -> datetime | None:
    """The last time that was known to be right, or else that of the newest row."""
    return await storage.marks.trusted_time() or await storage.erasures.last_write_time()


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

"""What the bot does at its start and again and again: such as erasing what is too old.

Knows how often, and how long something is kept. Does not know what is kept, or Discord.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from data.forgetting import purge
from data.store import Store

log = logging.getLogger(__name__)

HOUR_S, DAY_S = 3600.0, 86_400.0
RETRY_S = 600.0
"""Seconds after which a chore that failed is tried again."""

Wait = Callable[[float], Awaitable[object]]


def utc_now() -> datetime:
    return datetime.now(UTC)


async def erase_old(store: Store, days: int, clock: Callable[[], datetime] = utc_now) -> int:
    """Erase messages and records of replies that are older than so many days; how many.

    Raises:
        StoreError: what was erased until then is gone.
    """
    erased = await purge(store, clock() - timedelta(days=days))
    if erased:
        await store.empty_log()
        log.info("erased %d messages and records older than %d days", erased, days)
    return erased


async def repeat(
    chore: Callable[[], Awaitable[object]], every_s: float, name: str, wait: Wait = asyncio.sleep
) -> None:
    """Do the chore now and every so many seconds; what goes wrong is logged and tried again."""
    while True:
        pause = every_s
        try:
            await chore()
        except Exception:  # it must outlive whatever goes wrong with it once
            log.exception("%s failed and is tried again in %.0f s", name, RETRY_S)
            pause = RETRY_S
        await wait(pause)

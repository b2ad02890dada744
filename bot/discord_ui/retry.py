"""Which requests to Discord may succeed later, and how the end of a reply is retried.

discord.py already retries by itself, for some seconds; what is here covers a longer outage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import discord

from bot.discord_ui.http_errors import DISCORD_ERRORS

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (2.0, 8.0, 30.0, 60.0)
"""Seconds before each further try; the retries of discord.py come on top."""


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: Discord is down, overloaded or unreachable."""
    if isinstance(error, discord.HTTPException):
        return error.status == 429 or error.status >= 500
    return isinstance(error, DISCORD_ERRORS)


async def retry_transient(error: Exception, request: Callable[[], Awaitable[None]]) -> None:
    """Repeat a request that failed with `error`, for up to two minutes while its errors are
    transient.

    Raises:
        discord.HTTPException, ...: the last error, or the first that is not transient.
    """
    for delay_s in RETRY_DELAYS_S:
        if not is_transient(error):
            break
        log.info("Discord did not accept a reply, retrying in %g s: %s", delay_s, error)
        await asyncio.sleep(delay_s)
        try:
            return await request()
        except DISCORD_ERRORS as e:
            error = e
    raise error

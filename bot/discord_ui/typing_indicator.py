"""Shows that the bot is typing, beside the work: a reply never waits for that or fails with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord

from bot.discord_ui.http_errors import DISCORD_ERRORS

log = logging.getLogger(__name__)

TYPING_INTERVAL_S = 8.0
"""Seconds between two requests: Discord shows each for ten."""


@asynccontextmanager
async def show_typing(channel: discord.abc.Messageable) -> AsyncIterator[None]:
    """Show it until the end of the block."""
    showing = asyncio.create_task(_show(channel), name="typing")
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


async def _show(channel: discord.abc.Messageable) -> None:
    try:
        while True:
            await channel.typing()
            await asyncio.sleep(TYPING_INTERVAL_S)
    except DISCORD_ERRORS as e:
        log.debug("cannot show that I am typing: %s", e)

"""The typing indicator: one for each channel, and only for replies that take a while."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord

from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from bot.discord_ui.delivery.rest_traffic import RestTraffic

log = logging.getLogger(__name__)

TYPING_DELAY_S = 1.0
"""Seconds that a reply may take without an indicator: most are there by then."""
TYPING_INTERVAL_S = 8.0
"""Seconds between two typing requests: Discord shows each for ten."""


class TypingIndicators:
    """Shows in each channel with a slow reply that the bot is typing."""

    def __init__(self, traffic: RestTraffic) -> None:
        self._traffic = traffic
        self._replies: Counter[int] = Counter()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def show(self, channel: discord.abc.MessageableChannel) -> AsyncIterator[None]:
        """Show it until the end of the block, if that takes long; its failures disturb nothing."""
        self._replies[channel.id] += 1
        if self._replies[channel.id] == 1:
            self._tasks[channel.id] = asyncio.create_task(self._keep_typing(channel), name="typing")
        try:
            yield
        finally:
            self._replies[channel.id] -= 1
            if not self._replies[channel.id]:
                del self._replies[channel.id]
                task = self._tasks.pop(channel.id)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _keep_typing(self, channel: discord.abc.Messageable) -> None:
        await asyncio.sleep(TYPING_DELAY_S)
        try:
            while True:
                if self._traffic.may_type():
                    await channel.typing()
                await asyncio.sleep(TYPING_INTERVAL_S)
        except DISCORD_ERRORS as e:
            log.debug("cannot show that I am typing: %s", e)

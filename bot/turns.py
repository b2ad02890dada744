"""Turns: in each channel one at a time, first come first served; channels side by side.

Knows ids. Does not know what is done in a turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

log = logging.getLogger(__name__)


class Turns:
    """Who waits for a turn in which channel."""

    def __init__(self) -> None:
        self._locks: dict[int, asyncio.Lock] = {}
        self._waiting: dict[int, int] = {}
        self._pending: set[int] = set()
        self._withdrawn: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.closing = False

    @asynccontextmanager
    async def turn(self, channel_id: int, message_id: int) -> AsyncIterator[bool]:
        """A message's turn in its channel.

        False if it is not to be used: the message was deleted meanwhile, or the bot is closing.
        """
        self._pending.add(message_id)
        self._idle.clear()
        try:
            async with self.alone(channel_id):
                yield not (self.closing or message_id in self._withdrawn)
        finally:
            self._pending.discard(message_id)
            self._withdrawn.discard(message_id)
            if not self._pending:
                self._idle.set()

    @asynccontextmanager
    async def alone(self, channel_id: int) -> AsyncIterator[None]:
        """One holder at a time for each channel, first come first served; none kept when idle."""
        lock = self._locks.setdefault(channel_id, asyncio.Lock())
        self._waiting[channel_id] = self._waiting.get(channel_id, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[channel_id] -= 1
            if not self._waiting[channel_id]:
                del self._waiting[channel_id], self._locks[channel_id]

    def withdraw(self, message_ids: Collection[int]) -> None:
        """Messages were deleted: they lose their turn if they wait."""
        self._withdrawn.update(self._pending.intersection(message_ids))

    async def drain(self, seconds: float) -> bool:
        """Begin no new turn and wait at most that long for those under way; whether all ended."""
        self.closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("some replies were still under way after %.0f s", seconds)
        return self._idle.is_set()

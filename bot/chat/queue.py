"""Turns: in each channel one at a time, first come first served; channels side by side.

Knows ids. Does not know what is done in a turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bot.chat.errors import NotAdmitted
from i18n.phrase import phrase

log = logging.getLogger(__name__)

MAX_WAITING = 20
"""Turns that wait in one channel."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in a line. `merge_author_id` wrote a message that may share its turn with their next
    one."""

    message_id: int | None = None
    merge_author_id: int | None = None


@dataclass(eq=False, slots=True)
class LineState:
    """Who has the turn in a channel, and behind them who waits; what those in it were told."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tickets: list[Ticket] = field(default_factory=list)
    notified: set[str] = field(default_factory=set)
    merged: bool = False


class ChannelQueue:
    """Who waits for a turn in which channel."""

    def __init__(self) -> None:
        self._lines: dict[int, LineState] = {}
        self._pending: set[int] = set()
        self._withdrawn: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.closing = False

    @asynccontextmanager
    async def wait_for_slot(
        self, channel_id: int, message_id: int, merge_author_id: int | None = None
    ) -> AsyncIterator[bool]:
        """A message's turn in its channel; `merge_author_id` whom, if its turn may be shared.

        False if it is not to be used: the message was deleted meanwhile, or the bot is closing.

        Raises:
            NotAdmitted: too many wait there already.
        """
        self._pending.add(message_id)
        self._idle.clear()
        try:
            async with self._hold_ticket(channel_id, Ticket(message_id, merge_author_id)):
                yield not (self.closing or message_id in self._withdrawn)
        finally:
            self._pending.discard(message_id)
            self._withdrawn.discard(message_id)
            if not self._pending:
                self._idle.set()

    @asynccontextmanager
    async def exclusive(self, channel_id: int) -> AsyncIterator[None]:
        """A turn in a channel that no message asks for.

        Raises:
            NotAdmitted: too many wait there already.
        """
        async with self._hold_ticket(channel_id, Ticket()):
            yield

    @asynccontextmanager
    async def _hold_ticket(self, channel_id: int, place: Ticket) -> AsyncIterator[None]:
        """One holder at a time for each channel, first come first served; none kept when idle."""
        line = self._lines.setdefault(channel_id, LineState())
        if len(line.tickets) > MAX_WAITING:
            raise NotAdmitted(
                phrase(
                    "I am busy: you would be number {place} in the queue of this channel. "
                    "Please ask later.",
                    place=len(line.tickets),
                ),
                already_notified=self.mark_notified(channel_id, "full"),
            )
        line.tickets.append(place)
        try:
            async with line.lock:
                yield
        finally:
            line.tickets.remove(place)
            line.notified.discard("full")
            if not line.tickets:
                del self._lines[channel_id]

    def merges_into_next(self, channel_id: int) -> bool:
        """Whether the next message in a channel's line comes from whoever has the turn now, so that
        both are answered together."""
        now, *waiting = self._lines[channel_id].tickets
        there = (one for one in waiting if one.message_id not in self._withdrawn)
        after = next(there, None)
        goes_on = (
            now.merge_author_id is not None
            and after is not None
            and after.merge_author_id == now.merge_author_id
        )
        self._lines[channel_id].merged |= goes_on
        return goes_on

    def take_merged(self, channel_id: int) -> bool:
        """Whether the turn under way answers earlier messages too; it counts once."""
        line = self._lines[channel_id]
        shared, line.merged = line.merged, False
        return shared

    def mark_notified(self, channel_id: int, what: str) -> bool:
        """Whether a channel's line was told that before; it counts as told now."""
        told = self._lines[channel_id].notified
        before = what in told
        told.add(what)
        return before

    def clear_notified(self, channel_id: int, what: str) -> None:
        """What a channel's line was told is news again."""
        self._lines[channel_id].notified.discard(what)

    def count(self) -> dict[str, int]:
        """How many are `running`, one a channel, and how many are `waiting` behind them."""
        running = len(self._lines)
        places = sum(len(line.tickets) for line in self._lines.values())
        return {"running": running, "waiting": places - running}

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

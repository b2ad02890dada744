"""The queue of each channel: one turn at a time, first come, first served; channels in parallel.

Messages in a row by one person share a turn (a burst): the last one's reply answers them all.
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
"""Messages that may wait in one channel."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in a channel's line. With `merge_author_id`, the message may share its turn with that
    author's next one."""

    message_id: int | None = None
    merge_author_id: int | None = None
    is_withdrawn: bool = False


@dataclass(eq=False, slots=True)
class LineState:
    """A channel's line: the first ticket has the turn, since asyncio.Lock is fair. `notices` are
    those that its people have been given; `merged`: the turn also answers earlier messages."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tickets: list[Ticket] = field(default_factory=list)
    notices: set[str] = field(default_factory=set)
    merged: bool = False


class ChannelQueue:
    """The lines of all channels."""

    def __init__(self) -> None:
        self._lines: dict[int, LineState] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.closing = False

    @asynccontextmanager
    async def wait_for_slot(
        self, channel_id: int, message_id: int, merge_author_id: int | None = None
    ) -> AsyncIterator[bool]:
        """A message's turn; False if the message was deleted meanwhile or the bot is closing.

        Raises:
            NotAdmitted: too many are waiting in the channel.
        """
        ticket = Ticket(message_id, merge_author_id)
        async with self.exclusive(channel_id, ticket):
            yield not (self.closing or ticket.is_withdrawn)

    @asynccontextmanager
    async def exclusive(self, channel_id: int, ticket: Ticket | None = None) -> AsyncIterator[None]:
        """A turn in a channel, with or without a message.

        Raises:
            NotAdmitted: too many are waiting in the channel.
        """
        ticket = ticket or Ticket()
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
        line.tickets.append(ticket)
        self._idle.clear()
        try:
            async with line.lock:
                yield
        finally:
            line.tickets.remove(ticket)
            line.notices.discard("full")
            if not line.tickets:
                del self._lines[channel_id]
            if not self._lines:
                self._idle.set()

    def merges_into_next(self, channel_id: int) -> bool:
        """Whether the current message and the next one are by the same author, to be answered
        together.

        All turns of a burst but the last end here without a reply; the last one reads the whole
        burst as context. A deleted message is skipped: it would end the burst without a reply.
        """
        line = self._lines[channel_id]
        current, *waiting = line.tickets
        following = next((ticket for ticket in waiting if not ticket.is_withdrawn), Ticket())
        author = current.merge_author_id
        merges = author is not None and author == following.merge_author_id
        line.merged |= merges
        return merges

    def take_merged(self, channel_id: int) -> bool:
        """Whether the current turn also answers earlier messages; asking resets it."""
        line = self._lines[channel_id]
        merged, line.merged = line.merged, False
        return merged

    def mark_notified(self, channel_id: int, what: str) -> bool:
        """Record that a channel is given a notice; whether it already was."""
        notices = self._lines[channel_id].notices
        already = what in notices
        notices.add(what)
        return already

    def clear_notified(self, channel_id: int, what: str) -> None:
        """Let a notice be given to the channel again."""
        self._lines[channel_id].notices.discard(what)

    def count(self) -> dict[str, int]:
        """The numbers of tickets that are `running`, one per channel, and `waiting`."""
        running = len(self._lines)
        tickets = sum(len(line.tickets) for line in self._lines.values())
        return {"running": running, "waiting": tickets - running}

    def withdraw(self, message_ids: Collection[int]) -> None:
        """Messages were deleted: those that wait lose their turn."""
        for line in self._lines.values():
            for ticket in line.tickets:
                ticket.is_withdrawn |= ticket.message_id in message_ids

    async def drain(self, seconds: float) -> bool:
        """Refuse new turns and wait up to `seconds` for the others; whether all have ended."""
        self.closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("some replies were still in progress after %.0f s", seconds)
        return self._idle.is_set()

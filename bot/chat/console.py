"""A conversation without Discord: lines of text instead of messages, the bot's own way between.

Knows who says what to whom: one reader, in one channel. Does not know how replies are made
(`bot.chat.manager`), nor where the lines are shown. A notebook talks like this.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import count

from bot.chat.manager import ConversationManager
from bot.chat.request import Incoming, TextCheck

Show = Callable[[str], None]
"""Puts a text behind what stands there already."""

READER_ID = 1
"""The id of whoever talks: nobody else is here."""


def write_stdout(text: str) -> None:
    """Write it; a notebook shows it in a moment."""
    sys.stdout.write(text)


class ConsoleChat:
    """What one reader says in a channel, and what the bot answers, as lines."""

    def __init__(
        self,
        conversations: ConversationManager,
        *,
        channel_id: int,
        scope: int,
        show: Show = write_stdout,
    ) -> None:
        self._conversations = conversations
        self._channel_id = channel_id
        self._scope = scope
        self._show = show
        self._ids = count(time.time_ns())  # a store may know those of earlier talks

    async def send(self, text: str) -> None:
        """Show what is said, then the reply while it is written.

        Raises:
            NotAdmitted, ModelError, StoreError: there is no reply, as for
                `ConversationManager.answer`.
        """
        self._show(f"you: {text}\nbot: ")
        incoming = Incoming(
            next(self._ids), self._channel_id, self._scope, READER_ID, get_text=lambda: text
        )
        await self._conversations.answer(incoming, _ConsoleSink(self._show, next(self._ids)))


class _ConsoleSink:
    """The surface of a reply that can only be written on: what was shown stays."""

    def __init__(self, show: Show, reply_id: int) -> None:
        self._show = show
        self._reply_id = reply_id
        self._shown = ""

    async def show_queue_position(self, place: int) -> None:
        """Nobody waits to hear that."""

    async def add(self, text: str, check: TextCheck) -> None:
        check(self._shown + text)
        self._shown += text
        self._show(text)

    def restart(self) -> None:
        if self._shown:
            self._show(" …\nbot: ")
        self._shown = ""

    async def remove(self) -> None:
        self.restart()

    async def finish(self, text: str, note: str | None = None) -> int:
        if not text.startswith(self._shown):
            self.restart()
        self._show(text[len(self._shown) :] + (f"\n({note})" if note else "") + "\n")
        self._shown = text
        return self._reply_id

    async def fail(self, reason: str) -> None:
        self._show(f"({reason})\n")

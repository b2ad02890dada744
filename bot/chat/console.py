"""A conversation without Discord: lines of text instead of messages, as in the notebook.

Knows one reader in one channel. Replies are made by the same `ConversationManager` as in Discord.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import count

from bot.chat.manager import ConversationManager
from bot.chat.request import Incoming, TextCheck

Show = Callable[[str], object]
"""Appends text to the output."""

READER_ID = 1
"""The user id of the only person here."""


class ConsoleChat:
    """What one reader says in a channel and what the bot answers, as lines on stdout or `show`."""

    def __init__(
        self,
        conversations: ConversationManager,
        *,
        channel_id: int,
        scope: int,
        show: Show | None = None,
    ) -> None:
        self._conversations = conversations
        self._channel_id = channel_id
        self._scope = scope
        self._show = show or sys.stdout.write
        self._ids = count(time.time_ns())  # must differ from those of earlier runs in the store

    async def send(self, text: str) -> None:
        """Show the text, then the reply while it is written.

        Raises:
            NotAdmitted, ModelError, StoreError: as for `ConversationManager.answer`.
        """
        self._show(f"you: {text}\nbot: ")
        incoming = Incoming(
            next(self._ids), self._channel_id, self._scope, READER_ID, get_text=lambda: text
        )
        await self._conversations.answer(incoming, _ConsoleSink(self._show, next(self._ids)))


class _ConsoleSink:
    """A `ReplySink` that can only append: a discarded text stays, and a new line begins."""

    def __init__(self, show: Show, reply_id: int) -> None:
        self._show = show
        self._reply_id = reply_id
        self._shown = ""

    async def show_queue_position(self, place: int) -> None:
        """Not shown: there is nobody else in the queue."""

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

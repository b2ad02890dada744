"""Which messages and commands get a reply: pauses, rate limits, length, duplicate deliveries.

Does not know Discord, who may pause the bot, or how a reply is made.
"""

from __future__ import annotations

from cachetools import LRUCache

from bot.chat.errors import NotAdmitted
from bot.chat.rate_limit import RateLimits
from core.errors import Refusal
from data.storage.tables.pauses import EVERYWHERE, PauseTable
from i18n.phrase import phrase

MAX_IDS = 2000
"""Ids remembered to spot duplicates: some minutes' worth, even with a thousand servers."""
MAX_NOTIFIED_CHANNELS = 10_000
PAUSED_NOTICE = phrase(
    "I am paused: somebody who looks after me has asked me to be silent for now."
)


class Deduplicator:
    """The newest ids: after a lost connection, Discord may deliver an event again."""

    def __init__(self) -> None:
        self._ids: LRUCache[int, None] = LRUCache(MAX_IDS)

    def is_new(self, id_: int) -> bool:
        """Remember an id; False if it was remembered already."""
        is_new = id_ not in self._ids
        self._ids[id_] = None
        return is_new


class Pauses:
    """The scopes that are paused, and which channels were notified. Kept in memory, because every
    message asks for it."""

    def __init__(self, table: PauseTable) -> None:
        self._table = table
        self._paused: set[int] = set()
        self._notified: LRUCache[int, int] = LRUCache(MAX_NOTIFIED_CHANNELS)

    async def load(self) -> None:
        """Read the pauses that were in force before the bot was started."""
        self._paused = await self._table.scopes()

    def is_paused(self, scope: int) -> bool:
        return scope in self._paused or EVERYWHERE in self._paused

    async def pause(self, scope: int, paused_by: int) -> bool:
        """Pause a scope, or EVERYWHERE; False if it was paused already.

        Raises:
            StoreError: it is paused, but a restart would end that.
        """
        self._paused.add(scope)
        return await self._table.add(scope, paused_by)

    async def resume(self, scope: int) -> bool:
        """End a pause; False if there was none."""
        was_paused = scope in self._paused
        ended = await self._table.remove(scope)
        self._paused.discard(scope)
        for channel, of in list(self._notified.items()):
            if scope in (EVERYWHERE, of):
                del self._notified[channel]
        return ended or was_paused

    def check(self, channel_id: int, scope: int) -> None:
        """Raises:
        NotAdmitted: the scope is paused; each channel is notified once per pause.
        """
        if self.is_paused(scope):
            already_notified = channel_id in self._notified
            self._notified[channel_id] = scope
            raise NotAdmitted(PAUSED_NOTICE, already_notified=already_notified)


class Admission:
    """The checks before a message or command is answered; each cog makes one call."""

    def __init__(self, pauses: Pauses, limits: RateLimits, max_message_chars: int) -> None:
        self._pauses = pauses
        self._limits = limits
        self._max_message_chars = max_message_chars
        self._messages = Deduplicator()

    def admit_message(
        self, message_id: int, user_id: int, guild_id: int | None, channel_id: int, text: str
    ) -> bool:
        """Admit a message and count it; False if it was delivered before.

        Raises:
            NotAdmitted, Refusal: paused, too fast, or too long.
        """
        if not self._messages.is_new(message_id):
            return False
        self._pauses.check(channel_id, guild_id or user_id)
        self._limits.admit(user_id, guild_id, channel_id)
        self._check_length(text)
        return True

    def is_paused(self, scope: int) -> bool:
        return self._pauses.is_paused(scope)

    def admit_command(
        self, user_id: int, guild_id: int | None, channel_id: int, text: str = ""
    ) -> None:
        """Admit a command or button press and count it. Only its user sees a refusal, so for the
        channel the notice of a pause is still to come.

        Raises:
            Refusal: paused, too fast, or too long.
        """
        if self._pauses.is_paused(guild_id or user_id):
            raise Refusal(PAUSED_NOTICE)
        self._limits.admit(user_id, guild_id, channel_id)
        self._check_length(text)

    def _check_length(self, text: str) -> None:
        if len(text) > self._max_message_chars:
            raise Refusal(
                phrase(
                    "Your message has {length:,} characters, and I read at most {most:,}: please "
                    "say it shorter, or in several messages.",
                    length=len(text),
                    most=self._max_message_chars,
                )
            )

    def truncate(self, text: str) -> str:
        """The part of a text that is read: an edit can make a message too long afterwards."""
        return text[: self._max_message_chars]

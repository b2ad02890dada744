"""Where the bot is silent because somebody paused it: a server, or everywhere.

Keeps what the store knows at hand, so that a message costs no query. Does not know Discord, nor who
may pause it.
"""

from __future__ import annotations

from bot.chat.errors import NotAdmitted
from data.storage.storage import Storage
from data.storage.tables.pauses import EVERYWHERE
from i18n.phrase import phrase

PAUSED_NOTICE = phrase(
    "I am paused: somebody who looks after me has asked me to be silent for now."
)


class Pauses:
    """The pauses, and which channels were told of them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._paused: set[int] = set()
        self._notified: dict[int, int] = {}

    async def load(self) -> None:
        """Read what was paused before the bot was started."""
        self._paused = await self._storage.pauses.scopes()

    def is_paused(self, scope: int) -> bool:
        """Whether nothing is to be said there."""
        return scope in self._paused or EVERYWHERE in self._paused

    async def pause(self, scope: int, paused_by: int) -> bool:
        """Be silent in a scope, or EVERYWHERE; False if it was paused already.

        Raises:
            StoreError: it is silent, but the next start would not know.
        """
        self._paused.add(scope)
        return await self._storage.pauses.add(scope, paused_by)

    async def resume(self, scope: int) -> bool:
        """Speak again; False if it was not paused."""
        was_paused = scope in self._paused
        ended = await self._storage.pauses.remove(scope)
        self._paused.discard(scope)
        self._notified = {} if scope == EVERYWHERE else self._notified_outside(scope)
        return ended or was_paused

    def _notified_outside(self, scope: int) -> dict[int, int]:
        return {channel: there for channel, there in self._notified.items() if there != scope}

    def check(self, channel_id: int, scope: int) -> None:
        """Let the bot speak.

        Raises:
            NotAdmitted: it is paused there; a channel is told so once in each pause.
        """
        if self.is_paused(scope):
            raise NotAdmitted(
                PAUSED_NOTICE, already_notified=not self.should_notify(channel_id, scope)
            )

    def should_notify(self, channel_id: int, scope: int) -> bool:
        """Whether a channel is to be told of the pause: once in each pause."""
        told = channel_id in self._notified
        self._notified[channel_id] = scope
        return not told

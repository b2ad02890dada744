"""Where the bot is silent because somebody paused it: a server, or everywhere.

Keeps what the store knows at hand, so that a message costs no query. Does not know Discord, nor who
may pause it.
"""

from __future__ import annotations

from bot.chat.rate_limit import Held
from data.storage.store import Store
from data.storage.tables.pauses import EVERYWHERE
from i18n.phrase import phrase

PAUSED = phrase("I am paused: somebody who looks after me has asked me to be silent for now.")


class Silence:
    """The pauses, and which channels were told of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._paused: set[int] = set()
        self._told: dict[int, int] = {}

    async def load(self) -> None:
        """Read what was paused before the bot was started."""
        self._paused = await self._store.paused()

    def holds(self, scope: int) -> bool:
        """Whether nothing is to be said there."""
        return scope in self._paused or EVERYWHERE in self._paused

    async def begin(self, scope: int, paused_by: int) -> bool:
        """Be silent in a scope, or EVERYWHERE; False if it was paused already.

        Raises:
            StoreError: it is silent, but the next start would not know.
        """
        self._paused.add(scope)
        return await self._store.pause(scope, paused_by)

    async def end(self, scope: int) -> bool:
        """Speak again; False if it was not paused."""
        was_paused = scope in self._paused
        ended = await self._store.resume(scope)
        self._paused.discard(scope)
        self._told = {} if scope == EVERYWHERE else self._without(scope)
        return ended or was_paused

    def _without(self, scope: int) -> dict[int, int]:
        return {channel: there for channel, there in self._told.items() if there != scope}

    def check(self, channel_id: int, scope: int) -> None:
        """Let the bot speak.

        Raises:
            Held: it is paused there; a channel is told so once in each pause.
        """
        if self.holds(scope):
            raise Held(PAUSED, told=not self.tells(channel_id, scope))

    def tells(self, channel_id: int, scope: int) -> bool:
        """Whether a channel is to be told of the pause: once in each pause."""
        told = channel_id in self._told
        self._told[channel_id] = scope
        return not told

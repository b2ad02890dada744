"""Which reply of each channel has the newest buttons: where managers want them under the last reply
only, those before lose theirs. Forgets at a restart: then the one before keeps its buttons."""

from __future__ import annotations

from contextlib import suppress

import discord
from cachetools import LRUCache

from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from bot.judgement.duel import Duels
from bot.server.rules import ServerRules
from core.errors import StoreError
from core.server_settings import ButtonsUnder

MAX_REMEMBERED_CHANNELS = 10_000


class NewestButtons:
    """Takes buttons from replies that are not the last one any more."""

    def __init__(self, client: discord.Client, rules: ServerRules, duels: Duels) -> None:
        self._client = client
        self._rules = rules
        self._duels = duels
        self._newest: LRUCache[int, int] = LRUCache(MAX_REMEMBERED_CHANNELS)

    async def moved_to(self, message_id: int, *, channel_id: int, scope: int) -> None:
        """A message has buttons now: take them from the one before, unless it is a pair of answers
        that can still be voted on."""
        before = self._newest.get(channel_id)
        self._newest[channel_id] = message_id
        if before is None or self._rules.of(scope).buttons is not ButtonsUnder.LAST:
            return
        channel = self._client.get_partial_messageable(channel_id)
        # It was deleted, or /chat answered where I may not look; or the database cannot say.
        with suppress(*DISCORD_ERRORS, StoreError):
            if not await self._duels.is_open(before):
                await channel.get_partial_message(before).edit(view=None)

    def belong_under(self, message_id: int, *, channel_id: int, scope: int) -> bool:
        """Whether a reply there has buttons, as managers want it."""
        match self._rules.of(scope).buttons:
            case ButtonsUnder.NONE:
                return False
            case ButtonsUnder.LAST:
                return self._newest.get(channel_id, message_id) == message_id
            case _:
                return True

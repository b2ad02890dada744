"""How duels and canaries ended, told in the channel where they were begun.

What ended is in the database and is marked once it was told, so a restart loses no result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, is_transient
from bot.discord_ui.embeds.duel import canary_text, duel_embed
from bot.discord_ui.views.duel_buttons import winner_view
from bot.judgement.canary import Canaries
from bot.judgement.duel import Duels
from i18n.reader import say, set_language

log = logging.getLogger(__name__)

REVIEW_INTERVAL_S = 60.0
"""Seconds between two looks at what has ended."""


class Results:
    """Ends what is over, and announces it. `clock` gives the time, or None if it is not sure."""

    def __init__(
        self, bot: Gpt2Bot, duels: Duels, canaries: Canaries, clock: Callable[[], datetime | None]
    ) -> None:
        self._bot = bot
        self._duels = duels
        self._canaries = canaries
        self._clock = clock
        self._announcing = asyncio.Lock()

    async def review(self) -> None:
        """End the duels and canaries whose time is over, and announce what has ended."""
        now = self._clock()
        await self._duels.review(now)
        await self._canaries.review(now)
        if self._bot.is_ready():
            await self.announce()

    async def leave(self, scope: int) -> None:
        """End what runs in a server that the bot is not in any more. Raises StoreError."""
        await self._duels.leave(scope)
        await self._canaries.leave(scope)

    async def announce(self) -> None:
        """Announce what ended and was not told yet, maybe before a restart."""
        async with self._announcing:  # of two at once, the second finds nothing left
            for standing in await self._duels.unannounced():
                duel = standing.duel
                self._use_language(duel.scope)
                shown: dict[str, Any] = {"embed": duel_embed(standing)}
                if duel.winner:
                    shown["view"] = winner_view(duel.id)
                if await self._send(duel.report_channel_id, duel.scope, f"duel-{duel.id}", shown):
                    await self._duels.mark_announced(duel)
            for canary, counts in await self._canaries.unannounced():
                if canary.outcome is None:
                    continue
                self._use_language(canary.scope)
                shown = {"content": say(canary_text(canary.outcome, canary, counts))}
                nonce = f"canary-{canary.id}"
                if await self._send(canary.report_channel_id, canary.scope, nonce, shown):
                    await self._canaries.mark_announced(canary)

    def _use_language(self, scope: int) -> None:
        set_language(self._bot.languages.for_server(self._bot.get_guild(scope)))

    async def _send(self, channel_id: int, scope: int, nonce: str, shown: dict[str, Any]) -> bool:
        """Post a result; False if it may succeed later. With the same nonce, Discord takes a second
        try after a lost answer for the first."""
        channel = self._bot.get_partial_messageable(channel_id, guild_id=scope)
        try:
            await channel.send(nonce=nonce, **shown)
        except DISCORD_ERRORS as e:
            log.warning("the result %s cannot be announced: %s", nonce, e)
            return not is_transient(e)
        return True

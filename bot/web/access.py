"""Who may see what: asked of Discord at each request, never remembered for long.

The bot caches no members, so a member's roles are requested; what the roles permit, the bot knows
from the gateway as it is now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import discord
from cachetools import TTLCache

from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from bot.discord_ui.permissions import Rank, rank_with
from core.records import OPERATOR_AUTHOR_ID
from i18n.phrase import phrase

MEMBER_LIFE_S = 5.0
"""Seconds for which a member's roles are taken as known, to read; a form always asks anew."""
NAME_LIFE_S = 900.0
NAMES_WAIT_S = 1.0
"""Seconds that a page waits for names; a name that comes later is on the next page."""
MAX_MEMBERS, MAX_NAMES, MAX_ASKED_NAMES = 1000, 5000, 25
DISCORD_AWAY = phrase(
    "Discord cannot be reached right now, so I do not know what you may see. Reload the page in a "
    "minute."
)


class DiscordAway(Exception):
    """It cannot be asked who may see what; the message is a sentence for people."""

    def __init__(self) -> None:
        super().__init__(DISCORD_AWAY)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody on the page of a server, with their rank there now."""

    user_id: int
    guild: discord.Guild
    rank: Rank

    @property
    def scope(self) -> int:
        return self.guild.id

    @property
    def is_manager(self) -> bool:
        return self.rank >= Rank.MANAGER


Key = tuple[int, int]
"""The ids of a server and of a member."""


@dataclass(slots=True)
class Members:
    """What the bot knows of members now."""

    bot: Gpt2Bot
    _members: TTLCache[Key, discord.Member] = field(
        default_factory=lambda: TTLCache(MAX_MEMBERS, MEMBER_LIFE_S)
    )
    _names: TTLCache[Key, str] = field(default_factory=lambda: TTLCache(MAX_NAMES, NAME_LIFE_S))

    def is_operator(self, user_id: int) -> bool:
        return user_id in self.bot.operators

    async def visitor(self, guild_id: int, user_id: int, *, anew: bool = False) -> Visitor | None:
        """Somebody in a server; None if the bot or they are not in it. `anew`: whatever was known a
        moment ago.

        Raises:
            DiscordAway: that cannot be known now.
        """
        if not self.bot.is_ready() or self.bot.is_closed():
            raise DiscordAway
        guild = self.bot.get_guild(guild_id)
        if guild is None:
            return None
        if self.is_operator(user_id):
            return Visitor(user_id, guild, Rank.OPERATOR)
        if guild.unavailable:
            raise DiscordAway
        member = await self._member(guild, user_id, anew=anew)
        return Visitor(user_id, guild, rank_with(member.guild_permissions)) if member else None

    async def _member(
        self, guild: discord.Guild, user_id: int, *, anew: bool
    ) -> discord.Member | None:
        key = guild.id, user_id
        known = None if anew else self._members.get(key)
        if known is None:
            self._members.pop(key, None)
            try:
                known = self._members[key] = await guild.fetch_member(user_id)
            except discord.NotFound:
                return None
            except DISCORD_ERRORS as e:
                raise DiscordAway from e
        return known

    async def guilds(self, user_id: int, among: Collection[int]) -> list[discord.Guild]:
        """Those of the servers that somebody may open, by name."""
        every = [one.id for one in self.bot.guilds] if self.is_operator(user_id) else among
        found = await asyncio.gather(*(self.visitor(one, user_id) for one in every))
        return sorted((one.guild for one in found if one), key=lambda one: one.name)

    async def names(self, guild: discord.Guild, user_ids: Iterable[int]) -> Mapping[int, str]:
        """The names of people as the server shows them, as far as they are known in a second."""
        wanted = set(user_ids) - {OPERATOR_AUTHOR_ID}
        unknown = [one for one in wanted if (guild.id, one) not in self._names]
        if unknown:
            asking = asyncio.gather(*(self._ask(guild, one) for one in unknown[:MAX_ASKED_NAMES]))
            with suppress(TimeoutError):
                await asyncio.wait_for(asking, NAMES_WAIT_S)
        known = {one: self._names.get((guild.id, one)) for one in wanted}
        return {one: name for one, name in known.items() if name}

    async def _ask(self, guild: discord.Guild, user_id: int) -> None:
        """Learn somebody's name: also of those who have left."""
        name = str(user_id)
        try:
            name = (await guild.fetch_member(user_id)).display_name
        except discord.NotFound:
            with suppress(*DISCORD_ERRORS):
                name = (await self.bot.fetch_user(user_id)).display_name
        except DISCORD_ERRORS:
            return
        self._names[guild.id, user_id] = name

    def forget(self, user_id: int) -> None:
        """Forget somebody's name and roles."""
        known: tuple[TTLCache[Key, object], ...] = (self._members, self._names)  # type: ignore[assignment]
        for cache in known:
            for key in [one for one in cache if one[1] == user_id]:
                cache.pop(key, None)

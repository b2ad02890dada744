"""Names of people and channels, for texts in which Discord may show a mention as a number.

A mention in an embed is a name only to readers whose Discord happens to know the person. The bot
caches no members, so their names are requested.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

import discord

from bot.discord_ui.client import BotInteraction
from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from bot.discord_ui.embeds.style import quote_safely
from core.records import OPERATOR_AUTHOR_ID

Names = Mapping[int, str]
"""By the id of a person."""
MAX_NAME_CHARS = 40
_CHANNEL = re.compile(r"<#(\d{1,20})>")


async def names_of(asking: BotInteraction, user_ids: Iterable[int]) -> Names:
    """The names of people as the server of the interaction shows them; the id of those who cannot
    be found."""
    wanted = list({*user_ids} - {OPERATOR_AUTHOR_ID})
    found = await asyncio.gather(*(_name_of(asking, one) for one in wanted))
    return dict(zip(wanted, found, strict=True))


async def _name_of(asking: BotInteraction, user_id: int) -> str:
    sources: list[Callable[[int], Awaitable[discord.User | discord.Member]]] = []
    if asking.guild is not None:
        sources.append(asking.guild.fetch_member)
    sources.append(asking.client.fetch_user)  # somebody who has left
    for fetch in sources:
        with suppress(*DISCORD_ERRORS):
            return quote_safely((await fetch(user_id)).display_name, MAX_NAME_CHARS)
    return str(user_id)


def with_channel_names(text: str, guild: discord.Guild | None) -> str:
    """The text with `#general` for a channel's mention; the id of a channel that is gone."""

    def name(mention: re.Match[str]) -> str:
        channel = guild.get_channel_or_thread(int(mention[1])) if guild else None
        return f"#{channel.name if channel else mention[1]}"

    return _CHANNEL.sub(name, text)

"""In a new server the bot introduces itself, once: what it is, and three buttons to begin with.

Knows where it may write, and what Discord says of a server that it comes to. Does not know what the
buttons do: `bot.discord_ui.views.introduction_buttons`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import discord
from discord.ext import commands

from bot.chat.admission import Pauses
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, is_transient, post_with_retries
from bot.discord_ui.embeds.style import quote_safely
from bot.discord_ui.views.introduction_buttons import (
    IntroductionButton,
    Offer,
    introduction_view,
)
from core.errors import StoreError
from core.tasks import BackgroundTasks
from data.storage.tables.introductions import Introductions
from i18n.phrase import join_phrases, phrase
from i18n.reader import say, set_language

log = logging.getLogger(__name__)

MAX_ABSENCE = timedelta(days=1)
"""A server that invited the bot while it was off is greeted if that was no longer ago. No more than
any RETENTION_DAYS: a server whose record has expired is not greeted again."""
MAX_CHANNELS = 3
"""Channels that are tried: Discord may refuse a message although the permissions allow it."""
MAX_ENTRIES = 10
"""Entries of the audit log that are looked through for the invitation."""
MAX_SERVER_NAME_CHARS = 60

WHAT_I_AM = phrase(
    "**Hello! I am an AI: a small language model, GPT-2.** I make things up, so do not rely on "
    "what I say."
)
HOW_I_ANSWER = phrase("Mention me and I answer.")
LEARNS_WHAT_IS_TAUGHT = phrase("I learn only from what you hand to me on purpose.")
LEARNS_FROM_CONSENTING = phrase(
    "I learn only from what you hand to me on purpose, and from conversations with people who have "
    "agreed to it."
)


class Introduction(commands.Cog):
    """Introduces the bot to servers that it comes to."""

    def __init__(
        self,
        bot: Gpt2Bot,
        introductions: Introductions,
        pauses: Pauses,
        tasks: BackgroundTasks,
        *,
        learn_from_chat: bool,
    ) -> None:
        self._bot = bot
        self._introductions = introductions
        self._pauses = pauses
        self._tasks = tasks
        learns = LEARNS_FROM_CONSENTING if learn_from_chat else LEARNS_WHAT_IS_TAUGHT
        self._text = join_phrases([WHAT_I_AM, join_phrases([HOW_I_ANSWER, learns])], "\n")

    async def cog_load(self) -> None:
        self._bot.add_dynamic_items(IntroductionButton)

    @commands.Cog.listener()
    async def on_guild_join(self, guild: discord.Guild) -> None:
        self._begin(guild)

    @commands.Cog.listener()
    async def on_guild_available(self, guild: discord.Guild) -> None:
        """After an outage of a server: maybe it invited the bot during it."""
        if _joined_lately(guild):
            self._begin(guild)

    @commands.Cog.listener()
    async def on_shard_ready(self, shard_id: int) -> None:
        """After a login: greet the servers that invited the bot while it was off."""
        for guild in self._bot.guilds:
            if guild.shard_id == shard_id and _joined_lately(guild):
                self._begin(guild)

    def _begin(self, guild: discord.Guild) -> None:
        # Held by `tasks`, since the retries of an outage take minutes.
        self._tasks.spawn(self.introduce(guild), name=f"introduction in {guild.id}")

    async def introduce(self, guild: discord.Guild) -> None:
        """Post the introduction, unless there was one in this server."""
        if self._pauses.is_paused(guild.id):
            log.info("no introduction in %d: I am paused", guild.id)
            return
        try:
            if await self._introductions.claim(guild.id):
                await self._post_or_release(guild)
        except StoreError as e:  # it could not be said that it was posted, so it might come again
            log.warning("no introduction in %d: %s", guild.id, e)

    async def _post_or_release(self, guild: discord.Guild) -> None:
        """Post it in the first place that takes it; take the claim back unless it may be there,
        also if this is cancelled."""
        may_be_there = False
        try:
            set_language(self._bot.languages.for_server(guild))
            async for place, text, view in self._places(guild):
                may_be_there = True  # until Discord says that it is not
                may_be_there = await _try_to_post(place, text, view)
                if may_be_there:
                    return
            log.info("no introduction in %d: there is nowhere I may write", guild.id)
        finally:
            if not may_be_there:
                await self._introductions.release(guild.id)

    async def _places(
        self, guild: discord.Guild
    ) -> AsyncIterator[tuple[discord.abc.Messageable, str, discord.ui.View]]:
        """Where to try it, and with which words and buttons: in channels, then to the inviter."""
        text = say(self._text)
        for channel in islice(writable_channels(guild), MAX_CHANNELS):
            yield channel, text, introduction_view()
        inviter = await self._find_inviter(guild)
        if inviter is not None:
            nowhere = say(
                "In {server} I may not write anywhere: please give me the permissions View "
                "Channels and Send Messages in a channel.",
                server=quote_safely(guild.name, MAX_SERVER_NAME_CHARS),
            )
            # The other offers are for a channel of the server.
            yield inviter, f"{text}\n{nowhere}", introduction_view([Offer.PRIVACY])

    async def _find_inviter(self, guild: discord.Guild) -> discord.abc.Messageable | None:
        """Whoever added the bot, if it may read the audit log and finds it there."""
        if guild.me is None or not guild.me.guild_permissions.view_audit_log:
            return None
        added = guild.audit_logs(action=discord.AuditLogAction.bot_add, limit=MAX_ENTRIES)
        try:
            async for entry in added:
                if entry.target is not None and entry.target.id == self._bot.user_id():
                    return entry.user
        except DISCORD_ERRORS as e:
            log.info("the audit log of %d cannot be read: %s", guild.id, e)
        return None


def writable_channels(guild: discord.Guild) -> Iterator[discord.TextChannel]:
    """The text channels in which the bot may write: the system channel, then by position; those
    that only read, such as the rules, after those where people talk."""
    if guild.me is None:  # Discord has not sent the server yet
        return
    first = [guild.system_channel] if guild.system_channel else []
    every = dict.fromkeys([*first, *guild.text_channels])
    writable = [one for one in every if _may_write(one, guild.me)]
    yield from sorted(writable, key=lambda one: not _may_write(one, guild.default_role))


def _may_write(channel: discord.TextChannel, who: discord.Member | discord.Role) -> bool:
    granted = channel.permissions_for(who)
    return granted.view_channel and granted.send_messages


def _joined_lately(guild: discord.Guild) -> bool:
    joined = guild.me.joined_at if guild.me else None
    return joined is not None and abs(datetime.now(UTC) - joined) < MAX_ABSENCE


async def _try_to_post(place: discord.abc.Messageable, text: str, view: discord.ui.View) -> bool:
    """Post it; True also if that is not certain, for the sake of not posting it twice."""
    try:
        await post_with_retries(place, text, view=view)
    except DISCORD_ERRORS as e:
        log.info("an introduction was not accepted: %s", e)
        return is_transient(e)  # it may be there, only that Discord's answer was lost
    return True

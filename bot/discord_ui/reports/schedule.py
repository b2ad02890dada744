"""What a scheduled retrain needs of Discord: who is an administrator, and a word in a channel."""

from __future__ import annotations

import logging

import discord

from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, post_with_retries
from bot.discord_ui.permissions import Rank, rank_with
from core.tasks import BackgroundTasks
from i18n.phrase import Phrase
from i18n.reader import say, use_language

log = logging.getLogger(__name__)


class ScheduleInDiscord:
    """Asks Discord about members, which the bot does not keep, and posts in the background."""

    def __init__(self, bot: Gpt2Bot, tasks: BackgroundTasks) -> None:
        self._bot = bot
        self._tasks = tasks

    async def is_administrator(self, guild_id: int, user_id: int) -> bool | None:
        """Whether somebody may do there what administrators may, as operators do everywhere; None
        if Discord cannot be asked now."""
        guild = self._bot.get_guild(guild_id) if self._bot.is_ready() else None
        if guild is None or guild.unavailable:
            return None
        if user_id in self._bot.operators:
            return True
        if not user_id:  # whoever it was has had themselves forgotten
            return False
        try:
            member = await guild.fetch_member(user_id)
        except discord.NotFound:
            return False
        except DISCORD_ERRORS as e:
            log.info("the member %d of %d cannot be asked for: %s", user_id, guild_id, e)
            return None
        return rank_with(member.guild_permissions) >= Rank.ADMINISTRATOR

    async def tell(self, guild_id: int, channel_id: int, text: Phrase) -> None:
        """Post a sentence in the language of the server; if that cannot be, log it."""
        post = self._post(guild_id, channel_id, text)
        self._tasks.spawn(post, name=f"word on the schedule of {guild_id}")

    async def _post(self, guild_id: int, channel_id: int, text: Phrase) -> None:
        with use_language(self._bot.languages.for_server(self._bot.get_guild(guild_id))):
            said = say(text)
        channel = self._bot.get_partial_messageable(channel_id, guild_id=guild_id)
        try:
            await post_with_retries(channel, said)
        except DISCORD_ERRORS as e:
            log.warning("the channel %d cannot be told: %s: %s", channel_id, text, e)

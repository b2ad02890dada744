"""After an outage: what people wrote meanwhile, which Discord does not deliver by itself.

Discord replays events only if the connection is resumed within minutes. After a new login, the
channels that were active and those where the bot answers everything are read once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import discord
from discord.ext import commands

from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.cogs.chat import Chat
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, with_retries
from bot.discord_ui.delivery.rest_traffic import BACK_OFF_S
from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS
from bot.discord_ui.views.reply_buttons import stops_reply_to
from core.records import ChannelActivity
from core.tasks import BackgroundTasks
from core.texts import utf16_length
from data.storage.storage import Storage
from i18n.phrase import phrase
from i18n.reader import say, set_language

log = logging.getLogger(__name__)

MAX_CHANNELS = 100
"""Channels that are read after an outage, the most recently active ones first."""
MAX_MESSAGES = 50
"""Messages of a channel that are read, the newest ones."""
MAX_OUTAGE = timedelta(days=1)
"""Older messages get no answer any more."""
ALIVE_INTERVAL_S = 30.0
"""Seconds between two records that the bot is connected."""
MARGIN = timedelta(seconds=90)
"""A dead connection is noticed this late, the interval above included."""

WAS_AWAY = phrase("I was away when you wrote this. Please ask me again.")
WAS_RESTARTED = phrase("I was restarted while I wrote this.")

READ_ERRORS = (*DISCORD_ERRORS, discord.ClientException)
"""What reading a channel raises that is gone, hidden or of an unknown kind."""


class CatchUp(commands.Cog):
    """Finds missed messages. The time of `file` says when the bot was last connected."""

    def __init__(
        self,
        bot: Gpt2Bot,
        chat: Chat,
        storage: Storage,
        tasks: BackgroundTasks,
        file: Path,
        stale_s: float,
    ) -> None:
        self._bot = bot
        self._chat = chat
        self._storage = storage
        self._tasks = tasks
        self._file = file
        self._max_age = timedelta(seconds=stale_s)
        self._lock = asyncio.Lock()
        self._behind: set[int] = set()
        """The shards that are not connected, or have not caught up."""

    @commands.Cog.listener()
    async def on_shard_disconnect(self, shard_id: int) -> None:
        self._behind.add(shard_id)

    @commands.Cog.listener()
    async def on_shard_resumed(self, shard_id: int) -> None:
        self._behind.discard(shard_id)  # Discord delivers what was missed

    async def record_alive(self) -> None:
        """Remember that the bot is connected, if it is."""
        if self._bot.is_ready() and not self._behind:
            now = discord.utils.utcnow().timestamp()
            with suppress(OSError):  # a full disk only makes the next outage look longer
                self._file.touch()
                os.utime(self._file, (now, now))

    @commands.Cog.listener()
    async def on_shard_ready(self, shard_id: int) -> None:
        """After a login: answer what a shard missed if it is fresh, else say once in the channel
        that the bot was away. A half reply of a killed process loses its stop button."""
        self._behind.add(shard_id)
        outage_began = self._last_connected()
        replies: list[asyncio.Task[None]] = []
        async with self._lock:
            if outage_began is not None:
                for place in await self._places(shard_id):
                    try:
                        found = await self._read(place, outage_began)
                        replies += await self._catch_up_with(found)
                    except READ_ERRORS as e:
                        log.info("channel %d is not caught up with: %s", place.channel_id, e)
        self._behind.discard(shard_id)
        await self.record_alive()
        await asyncio.gather(*replies, return_exceptions=True)

    def _last_connected(self) -> datetime | None:
        """None before the very first login. The clock may have been set back since."""
        with suppress(FileNotFoundError):
            last = datetime.fromtimestamp(self._file.stat().st_mtime, UTC)
            return min(last, discord.utils.utcnow())
        return None

    async def _places(self, shard_id: int) -> Iterable[ChannelActivity]:
        active = await self._storage.messages.active_channels(MAX_CHANNELS)
        quiet = self._chat.enabled_channels - {one.channel_id for one in active}
        places = [*active, *map(ChannelActivity, quiet)]
        return [one for one in places if self._shard_of(one.channel_id) == shard_id][:MAX_CHANNELS]

    def _shard_of(self, channel_id: int) -> int:
        guild = getattr(self._bot.get_channel(channel_id), "guild", None)
        return guild.shard_id if guild is not None else 0  # direct messages come to the first one

    async def _read(
        self, place: ChannelActivity, outage_began: datetime
    ) -> Sequence[discord.Message]:
        """The newest messages since the outage, or since one that was recorded and not answered."""
        if not self._bot.traffic.may_edit():
            await asyncio.sleep(BACK_OFF_S)
        oldest_id = discord.utils.time_snowflake(discord.utils.utcnow() - MAX_OUTAGE)
        start_id = discord.utils.time_snowflake(outage_began - MARGIN)
        start_id = min(start_id, place.unanswered_id or start_id) - 1
        # Discord does not list direct messages and archived threads at the login.
        channel = self._bot.get_channel(place.channel_id)
        channel = channel or await self._bot.fetch_channel(place.channel_id)
        if not isinstance(channel, discord.abc.Messageable):
            return ()
        after = discord.Object(max(start_id, oldest_id))
        history = channel.history(limit=MAX_MESSAGES, after=after, oldest_first=False)
        return [one async for one in history][::-1]

    async def _catch_up_with(self, found: Sequence[discord.Message]) -> list[asyncio.Task[None]]:
        """Catch up with a channel; the replies are under way."""
        cut_short = {
            asked_id: one
            for one in found
            if (asked_id := stops_reply_to(one)) and not self._chat.is_being_answered(asked_id)
        }
        replied_to = {
            one.reference.message_id or 0
            for one in found
            if one.author == self._bot.user and one.reference is not None
        } - cut_short.keys()
        missed = [
            one
            for one in await self._without_answer(found, replied_to)
            if self._chat.is_question(one) and not self._chat.is_being_answered(one.id)
        ]
        fresh = [one for one in missed if discord.utils.utcnow() - one.created_at < self._max_age]
        # Whoever wrote before one of our later replies has read it, or an earlier apology.
        stale = [one for one in missed if one.id > max(replied_to, default=0)]
        answered_again = {one.id for one in fresh}
        for asked_id, half in cut_short.items():
            if asked_id in answered_again:
                await self._delete(asked_id, half, found)
            else:
                await self._end(half)
        if stale and not fresh and not self._chat.is_paused(stale[-1]):
            await self._apologise(stale[-1])
        return [
            self._tasks.spawn(self._chat.answer_missed(one), name=f"missed message {one.id}")
            for one in fresh
        ]

    async def _without_answer(
        self, found: Sequence[discord.Message], replied_to: Collection[int]
    ) -> list[discord.Message]:
        """Those that were not answered, nor a later one by the same person: several in a row get
        one reply."""
        ids = [one.id for one in found]
        answered = await self._storage.replies.answered(ids) | set(replied_to)
        newest: dict[int, int] = {}
        for one in found:
            if one.id in answered:
                newest[one.author.id] = one.id
        return [one for one in found if one.id > newest.get(one.author.id, 0)]

    async def _delete(
        self, asked_id: int, half: discord.Message, found: Sequence[discord.Message]
    ) -> None:
        """Delete all parts of a half reply; only the first refers to the question, only the last
        has the button."""
        first = next(
            (one.id for one in found if one.reference and one.reference.message_id == asked_id),
            half.id,
        )
        for one in found:
            is_part = one.author == self._bot.user and not (one.components or one.embeds)
            if one == half or (is_part and first <= one.id < half.id):
                await one.delete()

    async def _end(self, half: discord.Message) -> None:
        set_language(self._bot.languages.for_server(half.guild))
        text = f"{half.content}\n-# {say(WAS_RESTARTED)}"
        fits = utf16_length(text) <= MAX_MESSAGE_CHARS
        await half.edit(content=text if fits else half.content, view=None)

    async def _apologise(self, message: discord.Message) -> None:
        set_language(self._bot.languages.for_message(message))
        await with_retries(lambda: message.reply(say(WAS_AWAY), nonce=str(message.id)))

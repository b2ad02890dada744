"""After an outage: what people wrote meanwhile, which Discord does not deliver by itself.

Discord replays events only if the connection is resumed within minutes. After a new login, the
channels that were active and those where the bot answers everything are read, once each.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import discord

from bot.discord_ui.delivery.requests import DISCORD_ERRORS, with_retries
from bot.discord_ui.delivery.rest_traffic import BACK_OFF_S, RestTraffic
from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS
from bot.discord_ui.locale import LanguageResolver
from bot.discord_ui.views.reply_buttons import stops_reply_to
from core.records import ChannelActivity
from core.utf16 import utf16_length
from data.storage.tables.messages import Messages
from i18n.phrase import phrase
from i18n.reader import say, set_language

log = logging.getLogger(__name__)

MAX_CHANNELS = 100
"""Channels that are read, with one request each."""
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

Answer = Callable[[discord.Message], Coroutine[None, None, None]]


class CatchUp:
    """Finds missed messages. The time of `file` says when the bot was last connected."""

    def __init__(
        self,
        client: discord.Client,
        traffic: RestTraffic,
        languages: LanguageResolver,
        messages: Messages,
        file: Path,
        stale_s: float,
    ) -> None:
        self._client = client
        self._traffic = traffic
        self._languages = languages
        self._messages = messages
        self._file = file
        self._max_age = timedelta(seconds=stale_s)
        self._lock = asyncio.Lock()

    async def record_alive(self) -> None:
        """Remember that the bot is connected, if it is."""
        if self._client.is_ready():
            now = discord.utils.utcnow().timestamp()
            with suppress(OSError):  # a full disk only makes the next outage look longer
                self._file.touch()
                os.utime(self._file, (now, now))

    async def run(
        self,
        enabled: Collection[int],
        is_for_us: Callable[[discord.Message], bool],
        answer: Answer,
    ) -> None:
        """Answer what was missed while it is fresh, else say once in the channel that the bot was
        away. A reply that was growing when the bot was killed loses its stop button."""
        async with self._lock, asyncio.TaskGroup() as replies:
            async for found in self._by_channel(enabled):
                growing = [one for one in found if stops_reply_to(one) is not None]
                answered = [
                    one.reference.message_id or 0
                    for one in found
                    if one.author == self._client.user and one.reference and one not in growing
                ]
                last = max(answered, default=0)  # in a channel, answers come in order
                missed = [one for one in found if one.id > last and is_for_us(one)]
                fresh = [one for one in missed if self._is_fresh(one)]
                await self._end_growing(growing, {one.id for one in fresh})
                if fresh:
                    for one in fresh:
                        replies.create_task(answer(one))
                elif missed:
                    await self._apologise(missed[-1])
        await self.record_alive()

    def _is_fresh(self, message: discord.Message) -> bool:
        return discord.utils.utcnow() - message.created_at < self._max_age

    async def _by_channel(
        self, enabled: Collection[int]
    ) -> AsyncIterator[Sequence[discord.Message]]:
        """The messages of each channel since the newest that was answered, oldest first, as far
        back as the outage goes; none at the very first login."""
        try:
            last_connected = datetime.fromtimestamp(self._file.stat().st_mtime, UTC)
        except FileNotFoundError:
            return
        now = discord.utils.utcnow()  # the clock may have been set back since
        outage_id = discord.utils.time_snowflake(min(last_connected, now) - MARGIN)
        oldest_id = discord.utils.time_snowflake(now - MAX_OUTAGE)
        for place in await self._places(enabled):
            start_id = min(outage_id, place.unanswered_id or outage_id) - 1
            after = discord.Object(max(start_id, oldest_id, place.answered_id))
            if not self._traffic.may_edit():
                await asyncio.sleep(BACK_OFF_S)
            try:
                yield await self._read(place.channel_id, after)
            except DISCORD_ERRORS as e:
                log.info("channel %d cannot be read after an outage: %s", place.channel_id, e)

    async def _places(self, enabled: Collection[int]) -> Sequence[ChannelActivity]:
        active = await self._messages.active_channels(MAX_CHANNELS)
        quiet = set(enabled) - {one.channel_id for one in active}
        return [*active, *map(ChannelActivity, quiet)][:MAX_CHANNELS]

    async def _read(self, channel_id: int, after: discord.Object) -> Sequence[discord.Message]:
        # Discord does not list direct messages and archived threads at the login.
        channel = self._client.get_channel(channel_id) or await self._client.fetch_channel(
            channel_id
        )
        if not isinstance(channel, discord.abc.Messageable):
            return ()
        history = channel.history(limit=MAX_MESSAGES, after=after, oldest_first=False)
        return [one async for one in history][::-1]

    async def _end_growing(
        self, growing: Sequence[discord.Message], answered_again: Collection[int]
    ) -> None:
        for message in growing:
            try:
                if stops_reply_to(message) in answered_again:
                    await message.delete()
                else:
                    set_language(self._languages.for_server(message.guild))
                    text = f"{message.content}\n-# {say(WAS_RESTARTED)}"
                    fits = utf16_length(text) <= MAX_MESSAGE_CHARS
                    await message.edit(content=text if fits else message.content, view=None)
            except DISCORD_ERRORS as e:
                log.info("the reply %d keeps its stop button: %s", message.id, e)

    async def _apologise(self, message: discord.Message) -> None:
        set_language(self._languages.for_message(message))
        try:
            await with_retries(lambda: message.reply(say(WAS_AWAY), nonce=str(message.id)))
        except DISCORD_ERRORS as e:
            log.info("no answer to %d can be shown: %s", message.id, e)

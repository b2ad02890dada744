"""The Discord client: intents, cogs, the command tree and what happens when a command fails.

Built by `bot.app`, which adds the cogs. Does not know the storage or the worker.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import discord
from cachetools import LRUCache
from discord import app_commands
from discord.ext import commands

from bot.chat.admission import Deduplicator
from bot.discord_ui.bot_permissions import log_missing_permissions
from bot.discord_ui.delivery.requests import (
    ALREADY_ACKNOWLEDGED,
    DISCORD_ERRORS,
    is_interaction_expired,
)
from bot.discord_ui.delivery.rest_traffic import RestTraffic
from bot.discord_ui.errors import error_message, is_expected
from bot.discord_ui.locale import LanguageResolver, language_of_text
from bot.discord_ui.translator import Translator
from core.errors import StoreError
from core.files import write_atomically
from core.metrics import Metrics
from core.server_settings import Retrainers

log = logging.getLogger(__name__)

MAX_KNOWN_LANGUAGES = 10_000
MAX_CACHED_MESSAGES = 500
"""Cached messages: discord.py updates a cached message in place when it is edited, so an edit made
while the message waits for its turn is answered too."""
FORM_TIMEOUT_S = 900.0
"""Seconds until an open form is forgotten: as long as its interaction token is valid."""

BotInteraction = discord.Interaction["Gpt2Bot"]


class CommandTree(app_commands.CommandTree["Gpt2Bot"]):
    """Answers a failed command with a sentence that only its caller sees."""

    async def interaction_check(self, interaction: BotInteraction, /) -> bool:
        """Skip what Discord delivers twice. Answers are in the caller's language, unless the
        command calls `LanguageResolver.use_server`."""
        return accept_interaction(interaction)

    async def on_error(
        self, interaction: BotInteraction, error: app_commands.AppCommandError
    ) -> None:
        await report_failure(interaction, error)

    async def payload(self) -> list[dict[str, Any]]:
        """The commands as Discord is sent them, with their names and descriptions in every
        language."""
        assert self.translator is not None
        return [
            await one.get_translated_payload(self, self.translator) for one in self.get_commands()
        ]


async def report_failure(interaction: BotInteraction, error: Exception) -> None:
    """Tell the caller why their command, button or form failed, if Discord still accepts it."""
    cause = getattr(error, "original", error)
    if interaction.client.is_closed() or is_interaction_expired(cause):
        log.info("%s came too late to be answered: %s", interaction.id, cause)
        return
    if not is_expected(error):
        log.error("the command %s failed", interaction.command, exc_info=error)
    if interaction.response.type is not discord.InteractionResponseType.deferred_channel_message:
        interaction.client.languages.use_member(interaction)
    # else it takes the place of the deferred answer, so it is in that answer's language
    text = error_message(error)
    try:
        if not interaction.response.is_done():
            try:
                await interaction.response.send_message(text, ephemeral=True)
                return
            except discord.HTTPException as e:
                if e.code != ALREADY_ACKNOWLEDGED:  # by a deferral whose answer was lost
                    raise
        await interaction.followup.send(text, ephemeral=True)
    except DISCORD_ERRORS as e:
        log.warning("could not tell %s why a command failed: %s", interaction.user.id, e)


def accept_interaction(interaction: BotInteraction) -> bool:
    """Set the caller's language; False for an interaction that Discord delivers again."""
    interaction.client.languages.use_member(interaction)
    return interaction.client.interaction_dedup.is_new(interaction.id)


class ReportsFailure:
    """Mixin for views and forms: errors of callbacks are reported to the caller, and a press that
    Discord delivers twice counts once."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        return accept_interaction(interaction)

    async def on_error(
        self, interaction: discord.Interaction[Any], error: Exception, /, *_: object
    ) -> None:
        await report_failure(interaction, error)


async def dispatch_to_cog(
    interaction: discord.Interaction[Any], cog: str, method: str, *what: object
) -> None:
    """Call a method of a cog, for buttons that outlive the bot; report its failure."""
    if not accept_interaction(interaction):
        return
    try:
        await getattr(interaction.client.get_cog(cog), method)(interaction, *what)
    except Exception as e:  # discord.py would only log it
        await report_failure(interaction, e)


def owner_ids(application: discord.AppInfo | None) -> set[int]:
    """The owner of the application; of a team, its members who accepted and are not read-only."""
    if application is None:
        return set()
    if application.team is None:
        return {application.owner.id}
    accepted, reader = discord.TeamMembershipState.accepted, discord.TeamMemberRole.read_only
    there = [one for one in application.team.members if one.membership_state is accepted]
    return {one.id for one in there if one.role is not reader}


def _digest(wanted: Sequence[Any], known: Sequence[int]) -> bytes:
    """A hash of the commands, and of the ids of the commands that Discord has."""
    both = json.dumps([wanted, sorted(known)], sort_keys=True)
    return hashlib.sha256(both.encode()).hexdigest().encode()


EventParser = Callable[[Any], None]


def _tolerant(event: str, parse: EventParser) -> EventParser:
    """A parser of gateway events that logs its errors.

    An error in a parser would end discord.py's connection, and the bot with it. Nothing works
    without READY, though: discord.py takes a ConnectionError for a lost connection and logs in
    again.
    """

    def parse_or_log(data: Any) -> None:
        try:
            parse(data)
        except Exception as e:
            log.exception("Discord sent an event that cannot be read: %s", event)
            if event == "READY":
                raise ConnectionError(event) from e

    return parse_or_log


class Gpt2Bot(commands.AutoShardedBot):
    """discord.py's bot without prefix commands: mentions are conversation, not commands.

    It receives only guild and message events and caches no members: each message carries its
    author. Discord decides the number of shards.
    """

    def __init__(
        self,
        *,
        message_content: bool = True,
        operators: Collection[int] = frozenset(),
        languages: LanguageResolver | None = None,
        retrainers: Callable[[int], Retrainers | int] = lambda _: Retrainers.ADMINISTRATORS,
        traffic: RestTraffic | None = None,
        commands_digest: Path | None = None,
    ) -> None:
        self._commands_digest = commands_digest
        self.traffic = traffic or RestTraffic(Metrics())
        intents = discord.Intents(
            guilds=True, guild_messages=True, dm_messages=True, message_content=message_content
        )
        super().__init__(
            command_prefix=(),
            help_command=None,
            tree_cls=CommandTree,
            intents=intents,
            max_messages=MAX_CACHED_MESSAGES,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            allowed_mentions=discord.AllowedMentions.none(),
            http_trace=self.traffic.trace_config,
        )
        parsers = self._connection.parsers
        parsers.update({event: _tolerant(event, parse) for event, parse in parsers.items()})
        self.interaction_dedup = Deduplicator()
        self.languages = languages or LanguageResolver()
        self.retrainers = retrainers
        self.operators = set(operators)
        self.newest_message_at: datetime | None = None
        self._direct_languages: LRUCache[int, str] = LRUCache(MAX_KNOWN_LANGUAGES)

    async def setup_hook(self) -> None:
        self.operators |= owner_ids(self.application)
        await self.tree.set_translator(Translator())
        await self._sync_commands()

    async def _sync_commands(self) -> None:
        """Send the commands to Discord, unless it has them already: a list that is sent at every
        start uses up a daily limit, and is not shown for a while."""
        assert isinstance(self.tree, CommandTree)
        assert self.application_id is not None  # this is called after the login
        wanted = await self.tree.payload()
        known = [one.id for one in await self.tree.fetch_commands()]
        if not self._has_commands(wanted, known):
            # `tree.sync` would translate them all once more
            sent = await self.http.bulk_upsert_global_commands(self.application_id, wanted)
            if self._commands_digest is not None:
                digest = _digest(wanted, [int(one["id"]) for one in sent])
                try:
                    write_atomically(self._commands_digest, digest)
                except StoreError as e:
                    log.warning("the commands will be sent again at the next start: %s", e)

    def _has_commands(self, wanted: Sequence[Any], known: Sequence[int]) -> bool:
        file = self._commands_digest
        return file is not None and file.is_file() and file.read_bytes() == _digest(wanted, known)

    def user_id(self) -> int:
        """The id of the bot's own account; 0 before the login."""
        return self.user.id if self.user else 0

    async def on_ready(self) -> None:
        log.info("ready: %s in %d servers", self.user, len(self.guilds))
        for guild in self.guilds:
            if not guild.unavailable:  # else Discord has not said yet what is granted there
                log_missing_permissions(guild)

    async def on_guild_available(self, guild: discord.Guild) -> None:
        if self.is_ready():  # else `on_ready` comes to it
            log_missing_permissions(guild)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        log_missing_permissions(guild)

    async def on_message(self, message: discord.Message, /) -> None:
        """Prefix commands are off; `bot.discord_ui.cogs.chat` listens for messages."""
        self.newest_message_at = message.created_at
        if message.guild is None and (language := language_of_text(message.content)):
            self._direct_languages[message.author.id] = language

    def language_of(self, scope: int) -> str:
        """The language of a server; with a person's id, the one they last wrote in for sure."""
        default = self.languages.for_server(guild := self.get_guild(scope))
        if guild is not None or self.languages.forced:
            return default
        return self._direct_languages.get(scope, default)

    def forget_language_of(self, member: int) -> None:
        """Forget in which language somebody wrote their direct messages."""
        self._direct_languages.pop(member, None)

    def drop_cached_messages(self) -> None:
        """Forget all messages that discord.py keeps in memory."""
        if self._connection._messages is not None:
            self._connection._messages.clear()

"""The settings of a server: /settings open, export and import.

Parses, stores what was chosen, renders. What the settings do is read by the rest of the bot from
`bot.server.rules`; models and channels have their own stores, those of /model and /channel.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from functools import partial

import discord
from discord import app_commands
from discord.ext import commands

from bot.chat.model_router import ModelRouter
from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.context import channel_id_of, guild_scope
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, defer
from bot.discord_ui.embeds.settings import (
    PanelState,
    change_text,
    preview_lines,
    refusal_text,
)
from bot.discord_ui.model_choice import choose_model
from bot.discord_ui.permissions import Rank, rank_of, requires_rank
from bot.discord_ui.views.confirm import ConfirmView
from bot.discord_ui.views.settings import PanelActions, SettingsPanel
from bot.learning.schedule import NightlyRetrains
from bot.server.channels import EnabledChannels
from bot.server.file import (
    MAX_BYTES,
    TOO_LARGE,
    Places,
    Snapshot,
    changed_fields,
    read_file,
    write_file,
)
from bot.server.rules import ServerRules
from bot.server.time_zones import require_zone
from core.errors import Refusal, StoreError
from core.server_settings import FOR_ADMINISTRATORS, SCHEDULE, Value
from data.storage.storage import Storage
from i18n.phrase import phrase
from i18n.reader import say

log = logging.getLogger(__name__)

FILE_NAME = "settings.json"
NO_EVERYONE = phrase(
    "That role is everybody in the server: choose another one, or let managers retrain me."
)
NOTHING_NEW = phrase("Nothing would change: the settings are what this file says.")
NOT_DOWNLOADED = phrase("The file could not be downloaded from Discord: try again.")


class SettingsCommands(commands.Cog):
    """Shows and changes what managers chose for their server."""

    settings = app_commands.Group(
        name="settings",
        description="Choose how I behave in this server",
        guild_only=True,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(
        self,
        rules: ServerRules,
        channels: EnabledChannels,
        models: ModelRouter,
        nightly: NightlyRetrains,
        storage: Storage,
    ) -> None:
        self._rules = rules
        self._channels = channels
        self._models = models
        self._nightly = nightly
        self._storage = storage
        self._audit = storage.audit
        self._actions = PanelActions(
            read=self._read,
            choose=self._choose,
            use_model=self._use_model,
            switch_channels=self._switch_channels,
            forget_channels=self._forget_channels,
        )

    @commands.Cog.listener()
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        await self._forget(guild)

    @commands.Cog.listener()
    async def on_guild_join(self, guild: discord.Guild) -> None:
        """It may have removed the bot while that was off: whoever comes back begins anew."""
        await self._forget(guild)

    async def _forget(self, guild: discord.Guild) -> None:
        try:
            await self._rules.forget(guild.id)
            await self._nightly.forget(guild.id)
            await self._channels.forget(guild.id)
            await self._storage.golden.forget(guild.id)
        except StoreError as e:
            log.warning("the settings of %d are not forgotten: %s", guild.id, e)

    # --- the panel -------------------------------------------------------------------------------

    @settings.command(name="open", description="See and change how I behave in this server")
    @requires_rank(Rank.MANAGER)
    async def open_panel(self, asking: BotInteraction) -> None:
        await defer(asking, ephemeral=True)
        await SettingsPanel(asking.user.id, self._actions).show(asking)

    async def _read(self, asking: BotInteraction) -> PanelState:
        scope, guild = guild_scope(asking), asking.guild
        options = await self._models.options_at_once(scope)
        places = _places(guild, [one.name for one in options])
        chosen = await self._models.chosen(scope)
        now = await self._snapshot(scope, places)
        return PanelState(
            server=guild.name if guild else "",
            now=now,
            places=places,
            bounds=self._rules.bounds,
            models=tuple(one.name for one in options),
            missing=chosen if chosen not in (None, now.model) else None,
            gone=len(self._channels.in_server(scope)) - len(now.channels),
            is_administrator=rank_of(asking) >= Rank.ADMINISTRATOR,
            outlook=await self._nightly.outlook(scope),
        )

    async def _snapshot(self, scope: int, places: Places) -> Snapshot:
        active = await self._models.active(scope)
        enabled = frozenset(self._channels.in_server(scope)) & places.channels.keys()
        return Snapshot(self._rules.of(scope), active.name, frozenset(enabled))

    # --- what is chosen --------------------------------------------------------------------------

    async def _choose(self, asking: BotInteraction, name: str, value: Value) -> None:
        scope, places = guild_scope(asking), _places(asking.guild)
        _require_rank_for(asking, name)
        if name == "retrainers" and value == scope:  # the id of @everyone is that of its server
            raise Refusal(NO_EVERYONE)
        if name == "time_zone":
            value = require_zone(str(value))
        if name in SCHEDULE:
            await self._nightly.choose(scope, asking.user.id, channel_id_of(asking))
        await self._rules.choose(scope, name, value)
        what = change_text(name, value, places, self._rules.bounds)
        await record_audit(self._audit, asking, "settings change", what)

    async def _use_model(self, asking: BotInteraction, name: str) -> None:
        await choose_model(asking, self._models, self._storage, name)

    async def _switch_channels(
        self, asking: BotInteraction, on: Iterable[int], off: Iterable[int]
    ) -> None:
        scope = guild_scope(asking)
        for action, enabled, ids in (("enable", True, on), ("disable", False, off)):
            for one in sorted(ids):
                await self._channels.switch(one, scope, enabled=enabled)
                await record_audit(self._audit, asking, f"channel {action}", f"<#{one}>")

    async def _forget_channels(self, asking: BotInteraction) -> None:
        known = _places(asking.guild).channels
        gone = [one for one in self._channels.in_server(guild_scope(asking)) if one not in known]
        await self._switch_channels(asking, (), gone)

    # --- the file --------------------------------------------------------------------------------

    @settings.command(description="Download the settings of this server as a file")
    @requires_rank(Rank.MANAGER)
    async def export(self, asking: BotInteraction) -> None:
        await defer(asking, ephemeral=True)
        now, places = await self._now(asking)
        data = write_file(now, places)
        await record_audit(self._audit, asking, "settings export")
        await asking.edit_original_response(
            content=say("The settings as they are now. `/settings import` reads such a file."),
            attachments=[discord.File(io.BytesIO(data), FILE_NAME)],
        )

    @settings.command(
        name="import", description="Read settings from a file; you see first what would change"
    )
    @app_commands.describe(file="A file that /settings export wrote")
    @requires_rank(Rank.MANAGER)
    async def import_file(self, asking: BotInteraction, file: discord.Attachment) -> None:
        await defer(asking, ephemeral=True)
        data = await _download(file)
        now, wanted, places = await self._compare(asking, data)
        lines = preview_lines(now, wanted, places, self._rules.bounds)
        if not lines:
            await asking.edit_original_response(content=say(NOTHING_NEW))
            return
        await asking.edit_original_response(
            content="\n".join([say("This would change:"), *lines]),
            view=ConfirmView(
                say("Change it"),
                say("Leave it"),
                partial(self._apply, data),
                say("Nothing was changed."),
                rank=Rank.MANAGER,
            ),
        )

    async def _apply(self, data: bytes, press: BotInteraction) -> None:
        """Change what the file asks for, as things are by now."""
        await press.response.edit_message(view=None)
        now, wanted, _ = await self._compare(press, data)
        if wanted.model != now.model:  # first: a model may fail to load, and then nothing changes
            await self._use_model(press, wanted.model)
        for name in changed_fields(now.settings, wanted.settings):
            await self._choose(press, name, getattr(wanted.settings, name))
        await self._switch_channels(
            press, wanted.channels - now.channels, now.channels - wanted.channels
        )
        await press.edit_original_response(content=say("Done: these settings count from now on."))

    async def _compare(
        self, asking: BotInteraction, data: bytes
    ) -> tuple[Snapshot, Snapshot, Places]:
        """How things are, and how a file wants them.

        Raises:
            Refusal: the file is wrong, or asks for what the caller may not choose.
        """
        now, places = await self._now(asking)
        wanted = read_file(data, now, places, self._rules.bounds)
        for name in changed_fields(now.settings, wanted.settings):
            _require_rank_for(asking, name)
        return now, wanted, places

    async def _now(self, asking: BotInteraction) -> tuple[Snapshot, Places]:
        scope = guild_scope(asking)
        options = await self._models.options_at_once(scope)
        places = _places(asking.guild, [one.name for one in options])
        return await self._snapshot(scope, places), places


def _require_rank_for(asking: BotInteraction, name: str) -> None:
    if name in FOR_ADMINISTRATORS and rank_of(asking) < Rank.ADMINISTRATOR:
        raise Refusal(refusal_text(name))


def _places(guild: discord.Guild | None, models: Iterable[str] = ()) -> Places:
    """What can be chosen in a server: without @everyone, and without categories of channels."""
    if guild is None:
        return Places({}, {}, frozenset(models))
    roles = {one.id: one.name for one in guild.roles if not one.is_default()}
    channels = [*guild.channels, *guild.threads]
    names = {one.id: one.name for one in channels if not isinstance(one, discord.CategoryChannel)}
    return Places(roles, names, frozenset(models))


async def _download(file: discord.Attachment) -> bytes:
    if file.size > MAX_BYTES:
        raise Refusal(TOO_LARGE)
    try:
        return await file.read()
    except DISCORD_ERRORS as e:
        raise Refusal(NOT_DOWNLOADED) from e

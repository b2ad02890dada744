"""The button and the form for a server's time zone: there are too many for a menu."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import discord

from bot.discord_ui.client import FORM_TIMEOUT_S, BotInteraction, ReportsFailure
from core.server_settings import AUTOMATIC_ZONE
from i18n.reader import say

MAX_ZONE_CHARS = 60

OnZone = Callable[[BotInteraction, str], Awaitable[None]]


class ZoneButton(discord.ui.Button[Any]):
    """Opens the form."""

    def __init__(self, now: str, choose: OnZone, *, locked: bool) -> None:
        super().__init__(
            label=say("Another time zone…"), custom_id="settings:time_zone", disabled=locked
        )
        self._now = now
        self._choose = choose

    async def callback(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await interaction.response.send_modal(ZoneForm(self._now, self._choose))


class ZoneForm(ReportsFailure, discord.ui.Modal):
    """Asks for the zone; `choose` is told what was typed, or AUTOMATIC_ZONE for nothing."""

    def __init__(self, now: str, choose: OnZone) -> None:
        super().__init__(title=say("Time zone"), timeout=FORM_TIMEOUT_S)
        self.zone: discord.ui.TextInput[ZoneForm] = discord.ui.TextInput(
            custom_id="zone",
            max_length=MAX_ZONE_CHARS,
            default=None if now == AUTOMATIC_ZONE else now,
            required=False,
        )
        hint = say("A city or a name such as Europe/Berlin. Empty: automatic.")
        label = discord.ui.Label(text=say("Time zone"), description=hint, component=self.zone)
        self.add_item(label)
        self._choose = choose

    async def on_submit(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await self._choose(interaction, self.zone.value.strip() or AUTOMATIC_ZONE)

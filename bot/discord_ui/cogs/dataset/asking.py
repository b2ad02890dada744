"""What all buttons of /dataset have in common: only for managers, and only for ten minutes."""

from __future__ import annotations

from contextlib import suppress

import discord

from bot.discord_ui.client import Gpt2Bot, TellsFailure
from bot.discord_ui.http_errors import FAULTS
from bot.discord_ui.permissions import Rank, require

TIMEOUT_S = 600.0
"""Seconds after the last press that buttons can be pressed; Discord's token lives 15 minutes."""


class ManagerView(TellsFailure, discord.ui.View):
    """Buttons below an answer that only its caller sees.

    `shown` is the interaction that the answer belongs to; `closing` takes its place if nobody
    presses anything.
    """

    def __init__(self, shown: discord.Interaction[Gpt2Bot], closing: str) -> None:
        super().__init__(timeout=TIMEOUT_S)
        self.shown = shown
        self._closing = closing

    async def interaction_check(
        self,
        interaction: discord.Interaction[Gpt2Bot],  # type: ignore[override]
    ) -> bool:
        require(interaction, Rank.MANAGER)  # the caller may have lost the permission meanwhile
        return await super().interaction_check(interaction)

    async def on_timeout(self) -> None:
        with suppress(*FAULTS):  # who dismissed the answer needs no closing
            await self.shown.edit_original_response(
                content=self._closing, embed=None, attachments=[], view=None
            )

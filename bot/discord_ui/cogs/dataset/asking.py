"""What all buttons of /dataset have in common: only for managers, and only for ten minutes."""

from __future__ import annotations

from contextlib import suppress

import discord

from bot.discord_ui.client import Gpt2Bot, ReportsFailure
from bot.discord_ui.http_errors import DISCORD_ERRORS
from bot.discord_ui.permissions import Rank, require_rank

VIEW_TIMEOUT_S = 600.0
"""Seconds after the last press that buttons can be pressed; Discord's token lives 15 minutes."""


class ManagerView(ReportsFailure, discord.ui.View):
    """Buttons below an answer that only its caller sees.

    `source_interaction` is the interaction that the answer belongs to; `closing` takes its place if
    nobody presses anything.
    """

    def __init__(self, shown: discord.Interaction[Gpt2Bot], closing: str) -> None:
        super().__init__(timeout=VIEW_TIMEOUT_S)
        self.source_interaction = shown
        self._timeout_text = closing

    async def interaction_check(
        self,
        interaction: discord.Interaction[Gpt2Bot],  # type: ignore[override]
    ) -> bool:
        require_rank(interaction, Rank.MANAGER)  # the caller may have lost the permission meanwhile
        return await super().interaction_check(interaction)

    async def on_timeout(self) -> None:
        with suppress(*DISCORD_ERRORS):  # who dismissed the answer needs no closing
            await self.source_interaction.edit_original_response(
                content=self._timeout_text, embed=None, attachments=[], view=None
            )

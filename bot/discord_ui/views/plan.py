"""The plan of a retrain and its buttons: start it, see all of it, or leave it."""

from __future__ import annotations

from itertools import cycle

import discord

from bot.discord_ui.client import BotInteraction, ReportsFailure
from bot.discord_ui.embeds.style import Card, layout
from bot.discord_ui.permissions import require_retrainer
from bot.discord_ui.views.confirm import VIEW_TIMEOUT_S, OnAccept
from i18n.reader import say


class PlanView(ReportsFailure, discord.ui.LayoutView):
    """The plan as a card with Start, Details and Cancel; Details shows the plan in full in place of
    its summary, and Back the summary again."""

    row: discord.ui.ActionRow[PlanView] = discord.ui.ActionRow()

    def __init__(self, summary: Card, details: Card, on_start: OnAccept) -> None:
        super().__init__(timeout=VIEW_TIMEOUT_S)
        self._on_start = on_start
        self._pages = cycle([(summary, say("Details")), (details, say("Back"))])
        self.start.label, self.cancel.label = say("Start"), say("Cancel")
        self._turn()

    def _turn(self) -> None:
        card, self.details.label = next(self._pages)
        self.clear_items()
        self.add_item(card)
        self.add_item(self.row)

    async def interaction_check(self, interaction: BotInteraction, /) -> bool:  # type: ignore[override]
        require_retrainer(interaction)
        return await super().interaction_check(interaction)

    @row.button(style=discord.ButtonStyle.primary)
    async def start(self, interaction: BotInteraction, _: discord.ui.Button[PlanView]) -> None:
        self.stop()
        self.remove_item(self.row)
        await interaction.response.edit_message(view=self)
        await self._on_start(interaction)

    @row.button(style=discord.ButtonStyle.secondary)
    async def details(self, interaction: BotInteraction, _: discord.ui.Button[PlanView]) -> None:
        self._turn()
        await interaction.response.edit_message(view=self)

    @row.button(style=discord.ButtonStyle.secondary)
    async def cancel(self, interaction: BotInteraction, _: discord.ui.Button[PlanView]) -> None:
        self.stop()
        await interaction.response.edit_message(view=layout(say("Nothing was started.")))

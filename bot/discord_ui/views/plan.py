"""The buttons under the plan of a retrain: start it, see all of it, or leave it."""

from __future__ import annotations

from itertools import cycle

import discord

from bot.discord_ui.client import BotInteraction
from bot.discord_ui.permissions import require_retrainer
from bot.discord_ui.views.confirm import ConfirmView, OnAccept
from i18n.reader import say


class PlanView(ConfirmView):
    """Start, Details and Cancel; Details shows the plan in full in place of its summary, and Back
    the summary again."""

    def __init__(self, summary: discord.Embed, details: discord.Embed, on_start: OnAccept) -> None:
        super().__init__(
            say("Start"),
            say("Cancel"),
            on_start,
            say("Nothing was started."),
        )
        self._pages = cycle([(summary, say("Details")), (details, say("Back"))])
        _, self.details.label = next(self._pages)
        self.remove_item(self.decline)
        self.add_item(self.decline)  # the last one

    async def interaction_check(self, interaction: BotInteraction, /) -> bool:  # type: ignore[override]
        require_retrainer(interaction)
        return await super().interaction_check(interaction)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def details(self, interaction: BotInteraction, _: discord.ui.Button[PlanView]) -> None:
        embed, self.details.label = next(self._pages)
        await interaction.response.edit_message(embed=embed, view=self)

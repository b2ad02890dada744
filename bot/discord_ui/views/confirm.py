"""Buttons under an answer that only its caller sees, and the usual two: do it, or leave it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import discord

from bot.discord_ui.client import BotInteraction, ReportsFailure
from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from bot.discord_ui.permissions import Rank, require_rank

VIEW_TIMEOUT_S = 600.0
"""Seconds after the last press that buttons can be pressed; Discord's token lives 15 minutes."""

OnAccept = Callable[[BotInteraction], Awaitable[None]]


class EphemeralView(ReportsFailure, discord.ui.View):
    """Buttons that only the caller sees, who must still have the `rank` at each press.

    If nobody presses in time, `timeout_text` replaces the answer to the interaction `shown`.
    """

    def __init__(
        self, rank: Rank, shown: BotInteraction | None = None, timeout_text: str = ""
    ) -> None:
        super().__init__(timeout=VIEW_TIMEOUT_S)
        self._rank = rank
        self._shown = shown
        self._timeout_text = timeout_text

    async def interaction_check(self, interaction: BotInteraction, /) -> bool:  # type: ignore[override]
        require_rank(interaction, self._rank)
        return await super().interaction_check(interaction)

    async def on_timeout(self) -> None:
        await self.show_end(self._timeout_text)

    async def show_end(self, text: str) -> None:
        """Replace all that is shown by closing words."""
        if self._shown is None:
            return
        with suppress(*DISCORD_ERRORS):  # whoever dismissed the answer needs no closing words
            await self._shown.edit_original_response(
                content=text, embed=None, attachments=[], view=None
            )


class ConfirmView(EphemeralView):
    """A question's two buttons: `on_accept` answers the first, `declined` the second.

    `on_decline` is called when the second is pressed, and when nobody presses in time.
    """

    def __init__(
        self,
        accept: str,
        decline: str,
        on_accept: OnAccept,
        declined: str,
        *,
        rank: Rank = Rank.MEMBER,
        danger: bool = False,
        shown: BotInteraction | None = None,
        timeout_text: str = "",
        on_decline: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(rank, shown, timeout_text)
        self._on_decline = on_decline
        self._on_accept = on_accept
        self._declined = declined
        self.accept.label, self.decline.label = accept, decline
        if danger:
            self.accept.style = discord.ButtonStyle.danger

    @discord.ui.button(style=discord.ButtonStyle.primary)
    async def accept(self, interaction: BotInteraction, _: discord.ui.Button[ConfirmView]) -> None:
        self.stop()
        await self._on_accept(interaction)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def decline(self, interaction: BotInteraction, _: discord.ui.Button[ConfirmView]) -> None:
        self.stop()
        self._end()
        await interaction.response.edit_message(
            content=self._declined, embed=None, attachments=[], view=None
        )

    async def on_timeout(self) -> None:
        self._end()
        await super().on_timeout()

    def _end(self) -> None:
        if self._on_decline:
            self._on_decline()

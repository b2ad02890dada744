"""/growth: how the bot grew, as a picture, and the link to the page that shows more of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import discord
from discord import app_commands
from discord.ext import commands

from bot.chat.model_router import ModelRouter
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.context import guild_scope
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.charts import render_growth_chart
from bot.discord_ui.embeds.growth import growth_embed, growth_numbers
from bot.discord_ui.errors import error_message
from bot.discord_ui.permissions import Rank, requires_rank
from bot.learning.growth import GrowthReader
from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import current_language, say
from training.errors import ChildFailed

MakeLink = Callable[[int, int, str], str]
"""Makes the token of a one-time link for a member, to a server, in a language."""

NO_PAGE = phrase(
    "There is also a page that shows every lesson and every training; my operator can open it with "
    "the setting WEB_PORT."
)
THIS_MACHINE_ONLY = phrase("It opens only in a browser on the computer that I run on.")


class GrowthCommand(commands.Cog):
    """Shows how the bot grew. Without an `address` there is no page."""

    def __init__(
        self,
        growth: GrowthReader,
        models: ModelRouter,
        transfers: Path,
        make_link: MakeLink,
        *,
        address: str | None,
    ) -> None:
        self._growth = growth
        self._models = models
        self._transfers = transfers
        self._make_link = make_link
        self._address = address

    @app_commands.command(description="See how I grow: a picture, and a page with all of it")
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_guild=True)
    @requires_rank(Rank.MANAGER)
    async def growth(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True, thinking=True)
        scope = guild_scope(interaction)
        totals = (await self._growth.summary(scope)).totals
        checkpoints = await self._growth.checkpoints(scope)
        embed = growth_embed(totals, checkpoints, (await self._models.active(scope)).name)
        files = []
        try:
            chart = await render_growth_chart(growth_numbers(totals, checkpoints), self._transfers)
        except ChildFailed as e:
            embed.add_field(name=say("Chart"), value=error_message(e), inline=False)
        else:
            embed.set_image(url="attachment://growth.png")
            files = [discord.File(io.BytesIO(chart), "growth.png")]
        text = say(self._invitation(interaction.user.id, scope))
        await interaction.edit_original_response(content=text, embed=embed, attachments=files)

    def _invitation(self, user_id: int, scope: int) -> Phrase:
        if self._address is None:
            return NO_PAGE
        token = self._make_link(user_id, scope, current_language())
        link = phrase(
            "The page is here: <{link}>\nThe link is for you alone; it works once, within ten "
            "minutes. Older links are void, and where you were signed in, you are signed out.",
            link=f"{self._address}/in/{token}",
        )
        return (
            link if self._address.startswith("https") else join_phrases([link, THIS_MACHINE_ONLY])
        )

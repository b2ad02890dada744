"""Blind duels: /duel start, show and stop; the votes, and the use of a winner."""

from __future__ import annotations

import logging

import discord
from discord import app_commands
from discord.ext import commands

from bot.chat.model_router import ModelRouter
from bot.discord_ui.audit import record_audit
from bot.discord_ui.autocomplete import autocomplete_choices
from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.cogs.feedback import pressed_message
from bot.discord_ui.context import channel_id_of, guild_scope
from bot.discord_ui.delivery.newest_buttons import NewestButtons
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.duel import duel_embed
from bot.discord_ui.model_choice import choose_model, require_choosable
from bot.discord_ui.permissions import Rank, require_rank, requires_rank
from bot.discord_ui.reports.results import Results
from bot.discord_ui.views.duel_buttons import DuelUseButton, DuelVoteButton
from bot.discord_ui.views.reply_buttons import finished_view
from bot.judgement.duel import MAX_DAYS, Duels
from core.errors import Refusal, StoreError
from data.storage.storage import Storage
from i18n.phrase import phrase
from i18n.reader import say

log = logging.getLogger(__name__)

USUAL_SHARE = 20
"""Percent of the replies."""
FASTER_VOTE = phrase("Somebody was faster: their vote counts.")
NOT_A_WINNER = phrase("That duel has no winner that could be used here.")

TalkPlace = discord.TextChannel | discord.VoiceChannel | discord.StageChannel | discord.Thread
Share = app_commands.Range[int, 1, 100]


class DuelCommands(commands.Cog):
    """Lets managers compare two models, and members vote."""

    duel = app_commands.Group(
        name="duel",
        description="Let members say which of two models answers better",
        guild_only=True,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(
        self,
        bot: Gpt2Bot,
        duels: Duels,
        models: ModelRouter,
        buttons: NewestButtons,
        storage: Storage,
        results: Results,
    ) -> None:
        self._bot = bot
        self._duels = duels
        self._models = models
        self._buttons = buttons
        self._storage = storage
        self._audit = storage.audit
        self._results = results

    async def cog_load(self) -> None:
        self._bot.add_dynamic_items(DuelVoteButton, DuelUseButton)

    @commands.Cog.listener()
    async def on_ready(self) -> None:
        await self._results.announce()

    @commands.Cog.listener()
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        await self._leave(guild)

    @commands.Cog.listener()
    async def on_guild_join(self, guild: discord.Guild) -> None:
        """It may have removed the bot while that was off."""
        await self._leave(guild)

    async def _leave(self, guild: discord.Guild) -> None:
        try:
            await self._results.leave(guild.id)
        except StoreError as e:
            log.warning("the duel and the trial of %d do not end: %s", guild.id, e)

    # --- commands --------------------------------------------------------------------------------

    @duel.command(description="Show two answers now and then, and let members choose")
    @app_commands.describe(
        a="One of /model list",
        b="Another one",
        share="Of how many replies in 100 there are two",
        channel="Only there (everywhere, if no channel is chosen)",
        channel2="Also there",
        channel3="Also there",
    )
    @requires_rank(Rank.MANAGER)
    async def start(
        self,
        interaction: BotInteraction,
        a: str,
        b: str,
        share: Share = USUAL_SHARE,
        channel: TalkPlace | None = None,
        channel2: TalkPlace | None = None,
        channel3: TalkPlace | None = None,
    ) -> None:
        await defer(interaction, ephemeral=True)
        for name in (a, b):
            await self._require_choosable(interaction, name)
        places = {place.id for place in (channel, channel2, channel3) if place}
        duel = await self._duels.start(
            guild_scope(interaction), (a, b), share, places, channel_id_of(interaction)
        )
        both = phrase("{a} and {b}", a=duel.model_a, b=duel.model_b)
        await record_audit(self._audit, interaction, "duel start", both)
        text = say(
            "From now on {share} of 100 replies come with two answers, A and B, one from each "
            "model, in random order. I announce the result here, in {days} days at the latest.",
            share=share,
            days=MAX_DAYS,
        )
        await interaction.edit_original_response(content=text)

    async def _require_choosable(self, interaction: BotInteraction, name: str) -> None:
        """Raise Refusal for a model that the caller may not let answer: in a duel it does."""
        if name != (await self._models.active(guild_scope(interaction))).name:
            await require_choosable(interaction, self._models, self._storage, name)

    @duel.command(description="See how the duel stands, or how the last one ended")
    @requires_rank(Rank.MANAGER)
    async def show(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        standing = await self._duels.newest(guild_scope(interaction))
        await interaction.edit_original_response(embed=duel_embed(standing))

    @duel.command(description="End the duel without a result")
    @requires_rank(Rank.MANAGER)
    async def stop(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        standing = await self._duels.stop(guild_scope(interaction))
        duel = standing.duel
        both = phrase("{a} and {b}", a=duel.model_a, b=duel.model_b)
        await record_audit(self._audit, interaction, "duel stop", both)
        await interaction.edit_original_response(embed=duel_embed(standing))

    @start.autocomplete("a")
    @start.autocomplete("b")
    async def complete_model(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        options = await self._models.options_at_once(guild_scope(interaction))
        return autocomplete_choices([option.name for option in reversed(options)], current)

    # --- buttons ---------------------------------------------------------------------------------

    async def vote(self, press: BotInteraction, upper: bool | None) -> None:
        """A, B or “Both alike” was pressed: the chosen answer stays, with the usual buttons."""
        message_id = pressed_message(press).id
        settled = await self._duels.vote(message_id, press.user.id, upper=upper)
        press.client.languages.use_server(press)
        place = {"channel_id": channel_id_of(press), "scope": guild_scope(press)}
        has_buttons = self._buttons.belong_under(message_id, **place)
        usual = finished_view(False, ()) if has_buttons else None
        await press.response.edit_message(content=settled.text, view=usual)
        if not settled.was_first:
            press.client.languages.use_member(press)
            await press.followup.send(say(FASTER_VOTE), ephemeral=True)
        await self._results.announce()

    async def use(self, press: BotInteraction, duel_id: int) -> None:
        """“Use it” was pressed under a result."""
        require_rank(press, Rank.ADMINISTRATOR)
        await defer(press, ephemeral=True, thinking=True)
        scope, duel = guild_scope(press), await self._duels.get(duel_id)
        if duel is None or duel.scope != scope or duel.winner is None:
            raise Refusal(NOT_A_WINNER)
        option = await choose_model(press, self._models, self._storage, duel.winner)
        text = say("**{model}** answers from now on.", model=option.name)
        await press.edit_original_response(content=text)

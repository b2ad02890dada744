"""Models: /model list, info, use, rollback and delete; /about."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import discord
from discord import app_commands
from discord.ext import commands

from bot.chat.model_router import ModelRouter
from bot.discord_ui.audit import record_audit
from bot.discord_ui.autocomplete import autocomplete_choices
from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.context import guild_scope, scope_of
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.duel import duels_line
from bot.discord_ui.embeds.golden import tally_text
from bot.discord_ui.embeds.model import (
    checkpoint_card,
    format_megabytes,
    model_summary,
    registry_card,
)
from bot.discord_ui.embeds.style import BLURPLE, Fact, card, fact_lines, layout
from bot.discord_ui.model_choice import choose_model, roll_back
from bot.discord_ui.permissions import Rank, rank_of, requires_rank
from bot.discord_ui.views.confirm import ConfirmView
from data.storage.storage import Storage
from i18n.phrase import phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.convert.int8.quality import int8_message
from model.registry import ModelOption, find_option
from model.worker.messages import ModelInfo
from training.checkpoint_retention import CheckpointRetention
from training.checkpoints import (
    Manifest,
    StoredReport,
    folder_bytes,
    read_manifest,
    read_report,
)

MAX_LISTED = 25
"""Fields of an embed that Discord shows."""
MAX_DUELS = 3
"""The newest of a model that are shown."""
WHAT_I_AM = phrase(
    "I am an AI: I answer with GPT-2, a small language model. "
    "I make things up: do not rely on what I say.\n\n"
    "I learn from what people teach me: with `/teach`, by correcting a reply, or as a "
    "file. From conversations I learn only if my operator allows it, you agreed to it "
    "and a manager approved each pair.\n\n"
    "`/help` shows what you can do, `/privacy show` what I keep about you. "
    "My documentation: `docs/index.md` and `docs/privacy.md` of gpt2-discord-bot."
)


class Models(commands.Cog):
    """Shows and switches models."""

    model = app_commands.Group(
        name="model", description="See or choose the model that answers here", guild_only=True
    )

    def __init__(
        self,
        models: ModelRouter,
        worker: GenerationBackend,
        version: str,
        shelf: CheckpointRetention,
        storage: Storage,
    ) -> None:
        self._storage = storage
        self._models = models
        self._worker = worker
        self._version = version
        self._shelf = shelf

    @model.command(name="list", description="See the models that this server can use")
    async def list_models(self, interaction: BotInteraction) -> None:
        scope = guild_scope(interaction)
        interaction.client.languages.use_server(interaction)
        active, trial = await self._models.active(scope), self._models.trial(scope)
        embed = discord.Embed(title=say("Models"), colour=BLURPLE)
        options = self._models.options(scope)[-MAX_LISTED:]
        rejected = await asyncio.to_thread(self._rejected, options)
        for option in options:
            name = say("{model} · in use", model=option.name) if option == active else option.name
            if trial is not None and option.name == trial.name:
                name = say("{model} · on trial", model=name)
            if option in rejected:
                name = say("{model} · did not pass its checks", model=name)
            embed.add_field(name=name, value=model_summary(option), inline=False)
        embed.set_footer(
            text=say(
                "/model info shows where one comes from. A manager switches with /model use, "
                "goes back with /model rollback, and removes with /model delete. "
                "/retrain makes a new one."
            )
        )
        await interaction.response.send_message(embed=embed)

    def _rejected(self, options: list[ModelOption]) -> list[ModelOption]:
        """The checkpoints that did not pass their checks (blocking)."""
        own = [one for one in options if self._models.is_checkpoint(one)]
        reports = ((one, read_report(Path(one.source))) for one in own)
        return [one for one, report in reports if report and report.refusal]

    @model.command(description="Choose the model that answers in this server")
    @app_commands.describe(name="One of /model list")
    @requires_rank(Rank.MANAGER)
    async def use(self, interaction: BotInteraction, name: str) -> None:
        await defer(interaction, ephemeral=True)
        option = await choose_model(interaction, self._models, self._storage, name)
        text = say("**{model}** answers from now on.", model=option.name)
        await interaction.edit_original_response(content=text)

    @model.command(description="Go back to the model that answered here before")
    @requires_rank(Rank.MANAGER)
    async def rollback(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        option = await roll_back(interaction, self._models, self._storage)
        text = say("Back to **{model}**: it answers from now on.", model=option.name)
        await interaction.edit_original_response(content=text)

    @model.command(description="Where a model comes from, how it was trained, and how it scored")
    @app_commands.describe(name="One of /model list")
    async def info(self, interaction: BotInteraction, name: str) -> None:
        await defer(interaction, thinking=True)
        interaction.client.languages.use_server(interaction)
        scope = guild_scope(interaction)
        option = find_option(self._models.options(scope), name)
        more = await self._more_facts(scope, option)
        if self._models.is_checkpoint(option):
            files = await asyncio.to_thread(read_checkpoint, Path(option.source))
            card = checkpoint_card(*files, more)
        else:
            card = registry_card(option, more)
        await interaction.edit_original_response(view=card)

    async def _more_facts(self, scope: int, option: ModelOption) -> list[Fact]:
        """What is known of a model beside its folder."""
        found = []
        if (facts := self._worker.models.get(option.source)) and facts.int8:
            found.append(("int8", say(int8_message(facts.int8))))
        if tally := (await self._storage.golden.tallies(scope)).get(option.name):
            found.append((say("Golden questions"), tally_text(tally)))
        ratings = await self._storage.replies.ratings_of_model(scope, option.name)
        if ratings.up or ratings.down:
            found.append((say("Its replies"), f"👍 {ratings.up} · 👎 {ratings.down}"))
        if duels := await self._storage.duels.ended_of(scope, option.name, MAX_DUELS):
            found.append((say("Duels"), duels_line(duels, option.name)))
        return found

    @model.command(description="Remove a checkpoint for good")
    @app_commands.describe(name="A checkpoint that is not in use")
    @requires_rank(Rank.MANAGER)
    async def delete(self, interaction: BotInteraction, name: str) -> None:
        await defer(interaction, ephemeral=True)
        scope = guild_scope(interaction)
        taken = await asyncio.to_thread(
            folder_bytes, await self._shelf.removable_folder(scope, name)
        )
        await interaction.edit_original_response(
            content=say(
                "Delete **{model}** ({size})? It cannot be brought back.",
                model=name,
                size=format_megabytes(taken),
            ),
            view=ConfirmView(
                say("Delete"),
                say("Keep"),
                partial(self._delete, scope, name),
                say("**{model}** stays.", model=name),
                rank=Rank.MANAGER,
                danger=True,
            ),
        )

    async def _delete(self, scope: int, name: str, interaction: BotInteraction) -> None:
        await defer(interaction)
        await self._shelf.delete(scope, name)
        await record_audit(self._storage.audit, interaction, "model delete", name)
        text = say("**{model}** is gone.", model=name)
        await interaction.edit_original_response(content=text, view=None)

    @use.autocomplete("name")
    @info.autocomplete("name")
    async def complete_name(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        options = await self._models.options_at_once(guild_scope(interaction))
        return autocomplete_choices([option.name for option in reversed(options)], current)

    @delete.autocomplete("name")
    async def complete_checkpoint(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        scope = guild_scope(interaction)
        active = await self._models.active(scope)
        options = await self._models.options_at_once(scope)
        own = [one for one in options if self._models.is_checkpoint(one)]
        return autocomplete_choices([option.name for option in own if option != active], current)

    @app_commands.command(description="What I am, and which model runs on which device")
    async def about(self, interaction: BotInteraction) -> None:
        active = await self._models.active(scope_of(interaction))
        loaded = self._worker.models.get(active.source)
        ready = self._worker.ready
        model = active.name if loaded else say("{model}, not loaded", model=active.name)
        facts = [
            (say("Model here"), model),
            *(model_facts(loaded) if loaded else ()),
            (say("Device"), ready.device if ready else say("starting")),
            (say("Gateway"), format_latency(interaction.client)),
        ]
        if self._storage.health_warning and rank_of(interaction) >= Rank.MANAGER:
            facts.append((say("Database"), say(self._storage.health_warning)))
        title = f"gpt2-discord-bot {self._version}"
        about = layout(card(title, say(WHAT_I_AM), fact_lines(facts)))
        await interaction.response.send_message(view=about, ephemeral=True)


def read_checkpoint(folder: Path) -> tuple[Manifest, StoredReport | None, int]:
    """The manifest of a checkpoint, its report and its size in bytes (blocking)."""
    return read_manifest(folder), read_report(folder), folder_bytes(folder)


def model_facts(facts: ModelInfo) -> list[Fact]:
    """What is known of a loaded model."""
    return [
        (say("Parameters"), f"{facts.parameters:,}"),
        (say("Number format"), facts.dtype),
        (say("Loaded in"), say("{seconds:.1f} s", seconds=facts.load_s)),
        (say("Reads at most"), say("{count} tokens", count=facts.positions)),
    ]


def format_latency(bot: Gpt2Bot) -> str:
    """The latency of the gateway's heartbeat (NaN before the first one)."""
    known = bot.latency == bot.latency
    return f"{bot.latency * 1000:.0f} ms" if known else say("no heartbeat yet")

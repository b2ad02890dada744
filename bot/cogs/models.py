"""Models: /model list, /model use, /about."""

from __future__ import annotations

from collections.abc import Iterable

import discord
from discord import app_commands
from discord.ext import commands

from bot.client import Gpt2Bot
from bot.models import ModelSwitch
from model.client import WorkerClient
from model.messages import ModelFacts
from model.registry import ModelOption

BLURPLE = discord.Colour(0x5865F2)


class Models(commands.Cog):
    """Shows and switches models."""

    model = app_commands.Group(
        name="model", description="See or choose the model that answers here", guild_only=True
    )

    def __init__(self, models: ModelSwitch, worker: WorkerClient, version: str) -> None:
        self._models = models
        self._worker = worker
        self._version = version

    @model.command(name="list", description="See the models that this server can use")
    async def list_models(self, interaction: discord.Interaction[Gpt2Bot]) -> None:
        scope = scope_of(interaction)
        active = await self._models.active(scope)
        embed = discord.Embed(title="Models", colour=BLURPLE)
        options = self._models.options(scope)
        for option in options[-25:]:  # Discord shows at most 25 fields
            mark = " · in use" if option.name == active.name else ""
            embed.add_field(name=option.name + mark, value=summary(option), inline=False)
        embed.set_footer(text="A manager switches with /model use. /retrain makes a new one.")
        await interaction.response.send_message(embed=embed)

    @model.command(description="Choose the model that answers in this server")
    @app_commands.describe(name="One of /model list")
    @app_commands.checks.has_permissions(manage_guild=True)
    async def use(self, interaction: discord.Interaction[Gpt2Bot], name: str) -> None:
        await interaction.response.defer(thinking=True)
        option = await self._models.use(scope_of(interaction), name)
        await interaction.edit_original_response(content=f"**{option.name}** answers from now on.")

    @use.autocomplete("name")
    async def complete_name(
        self, interaction: discord.Interaction[Gpt2Bot], current: str
    ) -> list[app_commands.Choice[str]]:
        options = reversed(self._models.options(scope_of(interaction)))
        return choices([option.name for option in options], current)

    @app_commands.command(description="Which model runs, on what, and what you can ask of me")
    async def about(self, interaction: discord.Interaction[Gpt2Bot]) -> None:
        active = await self._models.active(interaction.guild_id or interaction.user.id)
        embed = discord.Embed(
            title=f"gpt2-discord-bot {self._version}",
            colour=BLURPLE,
            description=(
                "I answer with GPT-2, a small language model, and I learn what you teach me. "
                "I make things up: do not rely on what I say.\n\n"
                "Talk to me with a mention, a reply, a direct message or `/chat`. "
                "Teach me with `/teach`; an admin makes me learn it with `/retrain`."
            ),
        )
        facts = self._worker.models.get(active.source)
        embed.add_field(
            name="Model here", value=active.name if facts else f"{active.name}, not loaded"
        )
        if facts:
            for name, value in details(facts):
                embed.add_field(name=name, value=value)
        ready = self._worker.ready
        embed.add_field(name="Device", value=ready.device if ready else "starting")
        embed.add_field(name="Gateway", value=latency(interaction.client))
        await interaction.response.send_message(embed=embed, ephemeral=True)


def scope_of(interaction: discord.Interaction[Gpt2Bot]) -> int:
    """The guild's id; these commands are guild_only."""
    if interaction.guild_id is None:
        raise app_commands.NoPrivateMessage
    return interaction.guild_id


def choices(names: Iterable[str], current: str) -> list[app_commands.Choice[str]]:
    """What autocomplete offers: the names with `current` in them, that very name first."""
    typed = current.casefold()
    found = [name for name in names if typed in name.casefold()]
    found.sort(key=lambda name: name.casefold() != typed)
    return [app_commands.Choice(name=name, value=name) for name in found[:25]]


def summary(option: ModelOption) -> str:
    """What a person needs to choose, in two lines."""
    return (
        f"{option.parameters} parameters · {option.memory_usage} · {option.inference_speed}\n"
        f"{option.quality}"
    )


def details(facts: ModelFacts) -> list[tuple[str, str]]:
    """The handshake's facts of a loaded model, as field names and values."""
    return [
        ("Parameters", f"{facts.parameters:,}"),
        ("Number format", facts.dtype),
        ("Loaded in", f"{facts.load_s:.1f} s"),
        ("Reads at most", f"{facts.positions} tokens"),
    ]


def latency(bot: Gpt2Bot) -> str:
    """The gateway's heartbeat as a person reads it (NaN before the first one)."""
    return f"{bot.latency * 1000:.0f} ms" if bot.latency == bot.latency else "no heartbeat yet"

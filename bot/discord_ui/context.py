"""Where a message or an interaction comes from: its scope, its server and its channel."""

from __future__ import annotations

import discord
from discord import app_commands

from bot.discord_ui.client import BotInteraction


def scope_of(source: discord.Message | BotInteraction) -> int:
    """The guild's id; in a direct message the user's."""
    if isinstance(source, discord.Message):
        return source.guild.id if source.guild else source.author.id
    return source.guild_id or source.user.id


def guild_scope(interaction: BotInteraction) -> int:
    """The guild's id.

    Raises:
        NoPrivateMessage: it is a direct message.
    """
    if interaction.guild_id is None:
        raise app_commands.NoPrivateMessage
    return interaction.guild_id


def channel_id_of(interaction: BotInteraction) -> int:
    """The id of the channel that the interaction came from."""
    if interaction.channel_id is None:
        raise RuntimeError("Discord sent an interaction without a channel")
    return interaction.channel_id

"""The scope, the channel and the readable text of a message or an interaction."""

from __future__ import annotations

import re

import discord
from discord import app_commands

from bot.discord_ui.client import BotInteraction

MENTION = re.compile(r"<(@[!&]?|#)(\d{15,20})>")
UNKNOWN_NAMES = {
    "@": "@deleted-user",
    "@!": "@deleted-user",
    "@&": "@deleted-role",
    "#": "#deleted-channel",
}
"""As `discord.Message.clean_content` has it."""


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


def text_of(message: discord.Message, me: discord.ClientUser | None) -> str:
    """What the person wrote, mentions as names, without the mentions of the bot and its own role.

    Like `discord.Message.clean_content`, which keeps those. They are removed by id: the bot's name
    may be part of another mentioned name.
    """
    names = {one.id: f"@{one.display_name}" for one in message.mentions}
    names |= {one.id: f"@{one.name}" for one in message.role_mentions}
    names |= {one.id: f"#{one.name}" for one in message.channel_mentions}
    if me:
        names[me.id] = ""
    if message.guild and (role := message.guild.self_role):
        names[role.id] = ""

    def name(found: re.Match[str]) -> str:
        return names.get(int(found[2]), UNKNOWN_NAMES[found[1]])

    return discord.utils.escape_mentions(MENTION.sub(name, message.content)).strip()

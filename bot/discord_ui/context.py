"""The scope, the channel and the readable text of a message or an interaction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import discord
from discord import app_commands

from bot.discord_ui.client import BotInteraction
from core.japanese import has_japanese_word
from i18n.catalogue import ENGLISH, JAPANESE
from i18n.phrase import phrase

MARKUP = re.compile(
    r"<(?P<mention>@[!&]?|#)(?P<id>\d{15,20})>"
    r"|<a?(?P<emoji>:\w+:)\d{15,20}>"
    r"|<(?P<command>/[^<>:\n]+):\d{15,20}>"
    r"|<t:(?P<time>-?\d{1,13})(?::(?P<style>[tTdDfFsSR]))?>"
    r"|<id:(?P<place>[a-z-]+)(?::\d+)?>"
    r"|<(?P<link>https?://[^\s<>]+)>"
)
"""What Discord shows otherwise than it is written: discord.com/developers/docs/reference."""
INVISIBLE_CHARS = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
"""Without those that join emoji or the letters of a script."""
UNKNOWN_NAMES = {
    "@": "@deleted-user",
    "@!": "@deleted-user",
    "@&": "@deleted-role",
    "#": "#deleted-channel",
}
"""As `discord.Message.clean_content` has it."""
UNKNOWN_NAMES_IN_OPTIONS = {**UNKNOWN_NAMES, "@": "@someone", "@!": "@someone"}
"""With the options of a command, Discord does not send who is mentioned in them."""
PLACES = {
    "customize": phrase("Channels & Roles"),
    "browse": phrase("Browse Channels"),
    "guide": phrase("Server Guide"),
    "home": phrase("Server Guide"),
    "linked-roles": phrase("Linked Roles"),
}
"""Pages of a server that can be linked to."""
DATE_AND_TIME_FORMATS = {
    "t": ("", "short"),
    "T": ("", "medium"),
    "d": ("short", ""),
    "D": ("long", ""),
    "f": ("long", "short"),
    "F": ("full", "short"),
    "s": ("short", "short"),
    "S": ("short", "medium"),
}
"""Babel's formats for the styles of a timestamp."""


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
    """What the person wrote as people see it, without the mentions of the bot and its own role.

    Those are removed by id: the bot's name may be part of another mentioned name.
    """
    names = {one.id: f"@{one.display_name}" for one in message.mentions}
    names |= {one.id: f"@{one.name}" for one in message.role_mentions}
    names |= {one.id: f"#{one.name}" for one in message.channel_mentions}
    own = _own_mentions(me, message.guild)
    return readable_text(message.content, names | own, message.created_at)


def text_of_option(text: str, interaction: BotInteraction) -> str:
    """What a person wrote in an option of a command, read like a message."""
    guild = interaction.guild
    mentions = [found for found in MARKUP.finditer(text) if found["id"]]
    names = {
        int(one["id"]): _name_in(guild, int(one["id"])) or UNKNOWN_NAMES_IN_OPTIONS[one["mention"]]
        for one in mentions
    }
    own = _own_mentions(interaction.client.user, guild)
    return readable_text(text, names | own, interaction.created_at)


def _name_in(guild: discord.Guild | None, mentioned: int) -> str:
    """The name of a role, channel or known member; "" if there is none."""
    if guild is None:
        return ""
    if channel := guild.get_channel_or_thread(mentioned):
        return f"#{channel.name}"
    if one := guild.get_role(mentioned) or guild.get_member(mentioned):
        return f"@{one.name if isinstance(one, discord.Role) else one.display_name}"
    return ""


def _own_mentions(me: discord.ClientUser | None, guild: discord.Guild | None) -> dict[int, str]:
    role = guild.self_role if guild else None
    return {one.id: "" for one in (me, role) if one}


def readable_text(text: str, names: Mapping[int, str], now: datetime) -> str:
    """A text as Discord shows it to people; `names` are those of the mentioned ids."""

    def shown(markup: re.Match[str]) -> str:
        if mention := markup["mention"]:
            return names.get(int(markup["id"]), UNKNOWN_NAMES[mention])
        if plain := markup["emoji"] or markup["command"] or markup["link"]:
            return plain
        language = JAPANESE if has_japanese_word(text) else ENGLISH
        if seconds := markup["time"]:
            return _readable_time(int(seconds), markup["style"], now, language) or markup[0]
        if place := markup["place"]:
            return PLACES[place].translate_to(language) if place in PLACES else markup[0]
        return markup["emoji"] or markup["command"] or markup["link"]

    return INVISIBLE_CHARS.sub("", MARKUP.sub(shown, text)).strip()


def _readable_time(seconds: int, style: str | None, now: datetime, language: str) -> str:
    """A timestamp, in UTC as nobody's time zone is known; "" if there is no such date."""
    from babel.dates import format_date, format_time, format_timedelta  # takes time to import

    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    if style == "R":
        return format_timedelta(when - now, locale=language, add_direction=True)
    date, time = DATE_AND_TIME_FORMATS[style or "f"]
    parts = [format_date(when, date, locale=language)] if date else []
    if time:
        clock = format_time(when, time, locale=language).replace("\u202f", " ")
        parts.append(f"{clock} UTC")
    return " ".join(parts)

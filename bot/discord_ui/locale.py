"""Which language people read: a member that of their Discord, everybody together the server's.

Knows Discord's locales. The sentences themselves are in `i18n`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import discord

from core.japanese import has_word
from i18n.catalogue import ENGLISH, JAPANESE
from i18n.reader import of_locale, speak

if TYPE_CHECKING:
    from bot.discord_ui.client import Gpt2Bot

COMMUNITY = "COMMUNITY"
"""The feature of servers that choose their language; Discord says `en-US` of all others."""


@dataclass(frozen=True, slots=True)
class Languages:
    """`default` is read where Discord says nothing; `only`, if there is one, everywhere."""

    default: str = ENGLISH
    only: str | None = None

    def of_member(self, interaction: discord.Interaction[Gpt2Bot]) -> str:
        """The language of whoever used a command or a button."""
        return self.only or of_locale(str(interaction.locale)) or ENGLISH

    def of_server(self, guild: discord.Guild | None) -> str:
        """The language of what everybody in a server reads."""
        if self.only is not None or guild is None:
            return self.only or self.default
        chosen = of_locale(str(guild.preferred_locale)) or ENGLISH
        asked = chosen != ENGLISH or COMMUNITY in guild.features
        return chosen if asked else self.default

    def of_message(self, message: discord.Message) -> str:
        """The language of an answer; with a direct message Discord says nothing, but people do."""
        if message.guild is None and has_word(message.content):
            return self.only or JAPANESE
        return self.of_server(message.guild)


def to_member(interaction: discord.Interaction[Gpt2Bot]) -> None:
    """What follows is read by whoever used the command or the button, and nobody else."""
    speak(interaction.client.languages.of_member(interaction))


def to_all(interaction: discord.Interaction[Gpt2Bot]) -> None:
    """What follows is read by everybody in the channel."""
    if interaction.guild_id is None:
        to_member(interaction)
    else:
        speak(interaction.client.languages.of_server(interaction.guild))

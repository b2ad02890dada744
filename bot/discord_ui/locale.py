"""Which language people read: a member that of their Discord, everybody together the server's.

Knows Discord's locales. The sentences themselves are in `i18n`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import discord

from core.japanese import has_japanese_word
from i18n.catalogue import ENGLISH, JAPANESE
from i18n.reader import language_of_locale, set_language

COMMUNITY = "COMMUNITY"
"""The feature of servers that choose their language; Discord says `en-US` of all others."""


@dataclass(frozen=True, slots=True)
class LanguageResolver:
    """`default` is read where Discord says nothing; `forced`, if there is one, everywhere."""

    default: str = ENGLISH
    forced: str | None = None

    def for_member(self, interaction: discord.Interaction[Any]) -> str:
        """The language of whoever used a command or a button."""
        return self.forced or language_of_locale(str(interaction.locale)) or ENGLISH

    def for_server(self, guild: discord.Guild | None) -> str:
        """The language of what everybody in a server reads."""
        if self.forced is not None or guild is None:
            return self.forced or self.default
        chosen = language_of_locale(str(guild.preferred_locale)) or ENGLISH
        asked = chosen != ENGLISH or COMMUNITY in guild.features
        return chosen if asked else self.default

    def for_message(self, message: discord.Message) -> str:
        """The language of an answer; with a direct message Discord says nothing, but people do."""
        if message.guild is None and has_japanese_word(message.content):
            return self.forced or JAPANESE
        return self.for_server(message.guild)

    def use_member(self, interaction: discord.Interaction[Any]) -> None:
        """Only whoever used the command or the button reads what this task says from here on."""
        set_language(self.for_member(interaction))

    def use_server(self, interaction: discord.Interaction[Any]) -> None:
        """Everybody in the channel reads what this task says from here on."""
        if interaction.guild_id is None:
            self.use_member(interaction)
        else:
            set_language(self.for_server(interaction.guild))

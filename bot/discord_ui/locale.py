"""Chooses the language of an answer: the member's own if only they see it, else the server's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import discord

from core.japanese import has_japanese_word, is_english
from i18n.catalogue import ENGLISH, JAPANESE
from i18n.reader import language_of_locale, set_language

COMMUNITY = "COMMUNITY"
"""The feature of servers that can set their language; all others report `en-US`."""


def language_of_text(text: str) -> str | None:
    """The language that a text is in; None if that is not sure."""
    if has_japanese_word(text):
        return JAPANESE
    return ENGLISH if is_english(text) else None


@dataclass(frozen=True, slots=True)
class LanguageResolver:
    """`default` is used where Discord reports no language; `forced`, if set, everywhere. `chosen`
    is the language that the managers of a server chose, if any."""

    default: str = ENGLISH
    forced: str | None = None
    chosen: Callable[[int], str | None] = lambda _guild_id: None

    def for_member(self, interaction: discord.Interaction[Any]) -> str:
        """The language of the member who used a command or a button."""
        return self.forced or language_of_locale(str(interaction.locale)) or ENGLISH

    def for_server(self, guild: discord.Guild | None) -> str:
        """The language of messages that everybody in a server can see."""
        if self.forced is not None or guild is None:
            return self.forced or self.default
        if (wanted := self.chosen(guild.id)) is not None:
            return wanted
        chosen = language_of_locale(str(guild.preferred_locale)) or ENGLISH
        asked = chosen != ENGLISH or COMMUNITY in guild.features
        return chosen if asked else self.default

    def for_message(self, message: discord.Message) -> str:
        """The language of an answer; for direct messages Discord has none, so the text tells."""
        if message.guild is None and has_japanese_word(message.content):
            return self.forced or JAPANESE
        return self.for_server(message.guild)

    def use_member(self, interaction: discord.Interaction[Any]) -> None:
        """From here on, this task answers in the member's language: only they see it."""
        set_language(self.for_member(interaction))

    def use_server(self, interaction: discord.Interaction[Any]) -> None:
        """From here on, this task answers in the server's language: everybody sees it."""
        if interaction.guild_id is None:
            self.use_member(interaction)
        else:
            set_language(self.for_server(interaction.guild))

"""Localized names and descriptions of commands, for discord.py when it syncs the command tree."""

from __future__ import annotations

from discord import Locale, app_commands
from discord.app_commands import TranslationContextLocation as Location

from i18n.catalogue import localized_name
from i18n.reader import language_of_locale

NAME_KINDS = {
    Location.command_name: "command",
    Location.group_name: "command",
    Location.parameter_name: "option",
    Location.choice_name: "choice",
    Location.command_description: "description",
    Location.group_description: "description",
    Location.parameter_description: "description",
}
"""The message contexts (msgctxt) in `i18n/*/commands.po`."""


class Translator(app_commands.Translator):
    """Looks them up in the catalogues of `i18n`."""

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: Locale,
        context: app_commands.TranslationContextTypes,
    ) -> str | None:
        language, kind = language_of_locale(str(locale)), NAME_KINDS.get(context.location)
        if language is None or kind is None:
            return None
        return localized_name(language, kind, string.message)


def shown_name(kind: str, english: str, language: str) -> str:
    """A name as members see it whose Discord has that language."""
    return localized_name(language, kind, english) or english


def command_name(qualified_name: str, language: str) -> str:
    """What these members type after the slash."""
    return " ".join(shown_name("command", word, language) for word in qualified_name.split())

"""What commands, their options and choices are called in the languages that Discord knows.

discord.py asks for each name when it hands the command tree to Discord.
"""

from __future__ import annotations

from discord import Locale, app_commands
from discord.app_commands import TranslationContextLocation as Location

from i18n.catalogue import name_of
from i18n.reader import of_locale

KINDS = {
    Location.command_name: "command",
    Location.group_name: "command",
    Location.parameter_name: "option",
    Location.choice_name: "choice",
    Location.command_description: "description",
    Location.group_description: "description",
    Location.parameter_description: "description",
}
"""The contexts of the names in `i18n/*/commands.po`."""


class Translator(app_commands.Translator):
    """Looks names up in the catalogues."""

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: Locale,
        context: app_commands.TranslationContextTypes,
    ) -> str | None:
        language, kind = of_locale(str(locale)), KINDS.get(context.location)
        if language is None or kind is None:
            return None
        return name_of(language, kind, string.message)

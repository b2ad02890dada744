"""/help, and what a member is told who asks the bot for help in a conversation."""

from __future__ import annotations

from collections.abc import Iterator

from discord import app_commands
from discord.ext import commands

from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.context import scope_of
from bot.discord_ui.embeds.help import help_text
from bot.discord_ui.permissions import Rank, may_retrain, rank_of
from bot.server.rules import ServerRules
from core.japanese import has_japanese_word
from core.server_settings import Teaching
from i18n.catalogue import JAPANESE
from i18n.reader import current_language, use_language


class Help(commands.Cog):
    """Tells people what they can do here."""

    def __init__(self, rules: ServerRules) -> None:
        self._rules = rules

    @app_commands.command(description="What you can do with me, and how")
    async def help(self, interaction: BotInteraction) -> None:
        scope, rank = scope_of(interaction), rank_of(interaction)
        text = help_text(
            interaction.client.tree,
            rank,
            in_server=interaction.guild_id is not None,
            buttons=self._rules.shows_buttons(scope),
            granted={"retrain"} if may_retrain(interaction) else (),
            refused=refused_commands(self._rules, scope, rank),
        )
        await interaction.response.send_message(text, ephemeral=True)


def refused_commands(rules: ServerRules, scope: int, rank: Rank) -> Iterator[str]:
    """What a server refuses to that rank, although Discord shows it."""
    if rules.of(scope).teaching is Teaching.MANAGERS and rank < Rank.MANAGER:
        yield "teach"


def help_for_member(bot: Gpt2Bot, rules: ServerRules, scope: int, question: str) -> str:
    """What anybody may read who asks for help there: in the language of all replies, but in
    Japanese if that was the question."""
    language = JAPANESE if has_japanese_word(question) else current_language()
    with use_language(bot.languages.forced or language):
        in_server = bot.get_guild(scope) is not None
        return help_text(
            bot.tree,
            Rank.MEMBER,
            in_server=in_server,
            buttons=rules.shows_buttons(scope),
            refused=refused_commands(rules, scope, Rank.MEMBER),
        )

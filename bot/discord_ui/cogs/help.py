"""/help, and what a member is told who asks the bot for help in a conversation."""

from __future__ import annotations

from discord import app_commands
from discord.ext import commands

from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.embeds.help import help_text
from bot.discord_ui.permissions import Rank, rank_of
from core.japanese import has_japanese_word
from i18n.catalogue import JAPANESE
from i18n.reader import current_language, use_language


class Help(commands.Cog):
    """Tells people what they can do here. `buttons`: replies have some."""

    def __init__(self, *, buttons: bool) -> None:
        self._buttons = buttons

    @app_commands.command(description="What you can do with me, and how")
    async def help(self, interaction: BotInteraction) -> None:
        text = help_text(
            interaction.client.tree,
            rank_of(interaction),
            in_server=interaction.guild_id is not None,
            buttons=self._buttons,
        )
        await interaction.response.send_message(text, ephemeral=True)


def help_for_member(bot: Gpt2Bot, buttons: bool, scope: int, question: str) -> str:
    """What anybody may read who asks for help there: in the language of all replies, but in
    Japanese if that was the question."""
    language = JAPANESE if has_japanese_word(question) else current_language()
    with use_language(bot.languages.forced or language):
        in_server = bot.get_guild(scope) is not None
        return help_text(bot.tree, Rank.MEMBER, in_server=in_server, buttons=buttons)

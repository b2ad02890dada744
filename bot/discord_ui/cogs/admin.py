"""Administration: /pause, /resume and /audit."""

from __future__ import annotations

from discord import app_commands
from discord.ext import commands

from bot.chat.admission import Pauses
from bot.chat.manager import ConversationManager
from bot.discord_ui.audit import AuditPages, record_audit
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.permissions import Rank, require_rank
from core.errors import Refusal, StoreError
from data.storage.tables.audit import AuditLog
from data.storage.tables.pauses import EVERYWHERE
from i18n.phrase import Phrase, phrase
from i18n.reader import say

PAUSE_NOTE = phrase(
    "Managers can still use their commands, and a training job continues: it has a Pause "
    "button of its own."
)


class Admin(commands.Cog):
    """Commands of managers and operators."""

    def __init__(
        self, audit: AuditLog, silence: Pauses, conversations: ConversationManager
    ) -> None:
        self._audit = audit
        self._pauses = silence
        self._conversations = conversations

    @app_commands.command(description="Silence me here at once; /resume ends it")
    @app_commands.describe(everywhere="In all servers and direct messages (for operators)")
    @app_commands.default_permissions(manage_guild=True)
    async def pause(self, asking: BotInteraction, everywhere: bool = False) -> None:
        scope = authorized_scope(asking, everywhere=everywhere)
        await defer(asking, ephemeral=True)
        try:
            begun = await self._pauses.pause(scope, asking.user.id)
        except StoreError as e:
            await record_audit(self._audit, asking, "pause", scope=scope)
            raise Refusal(
                phrase(
                    "I am silent {where}, but only until I am restarted: {why}",
                    where=scope_label(scope),
                    why=e.args[0],
                )
            ) from e
        finally:
            self._conversations.generator.stop_scope(None if everywhere else scope)
        if begun:
            await record_audit(self._audit, asking, "pause", scope=scope)
            text = say(
                "I am silent {where} until `/resume`. {still}",
                where=scope_label(scope),
                still=PAUSE_NOTE,
            )
        else:
            text = say("I was silent {where} already.", where=scope_label(scope))
        await asking.edit_original_response(content=text)

    @app_commands.command(description="Let me speak again")
    @app_commands.describe(everywhere="In all servers and direct messages (for operators)")
    @app_commands.default_permissions(manage_guild=True)
    async def resume(self, asking: BotInteraction, everywhere: bool = False) -> None:
        scope = authorized_scope(asking, everywhere=everywhere)
        await defer(asking, ephemeral=True)
        if await self._pauses.resume(scope):
            await record_audit(self._audit, asking, "resume", scope=scope)
            text = say("I answer {where} again.", where=scope_label(scope))
        else:
            text = say("I was not silent {where}.", where=scope_label(scope))
        if not everywhere and self._pauses.is_paused(scope):
            text = say("{done} But an operator has paused me everywhere.", done=text)
        await asking.edit_original_response(content=text)

    @app_commands.command(description="What managers and operators did, newest first")
    @app_commands.describe(everywhere="In all servers (for operators)")
    @app_commands.default_permissions(manage_guild=True)
    async def audit(self, asking: BotInteraction, everywhere: bool = False) -> None:
        scope = authorized_scope(asking, everywhere=everywhere)
        await defer(asking, ephemeral=True)
        await AuditPages(self._audit, None if everywhere else scope).show(asking)


def authorized_scope(asking: BotInteraction, *, everywhere: bool) -> int:
    """The scope that the command is about, if the caller may decide there.

    Raises:
        Refusal, MissingPermissions, NoPrivateMessage: they may not.
    """
    if everywhere:
        require_rank(asking, Rank.OPERATOR)
        return EVERYWHERE
    if asking.guild_id is None:
        raise app_commands.NoPrivateMessage
    require_rank(asking, Rank.MANAGER)
    return asking.guild_id


def scope_label(scope: int) -> Phrase:
    return phrase("everywhere") if scope == EVERYWHERE else phrase("in this server")

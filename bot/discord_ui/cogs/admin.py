"""Looking after the bot: /pause, /resume and /audit.

Parses, calls the silence or the audit, renders.
"""

from __future__ import annotations

from discord import app_commands
from discord.ext import commands

from bot.chat.manager import ConversationManager
from bot.chat.pauses import Silence
from bot.discord_ui.audit import AuditPages, note
from bot.discord_ui.errors import Refusal
from bot.discord_ui.permissions import Asking, Rank, require
from core.errors import StoreError
from data.storage.store import Store
from data.storage.tables.pauses import EVERYWHERE
from i18n.phrase import Phrase, phrase
from i18n.reader import say

STILL = phrase("What managers do works meanwhile, and a training goes on: it has a Pause button.")


class Operating(commands.Cog):
    """For those who look after the bot."""

    def __init__(self, store: Store, silence: Silence, conversations: ConversationManager) -> None:
        self._store = store
        self._silence = silence
        self._conversations = conversations

    @app_commands.command(description="Make me silent here, at once; /resume ends it")
    @app_commands.describe(everywhere="In all servers and direct messages (for operators)")
    @app_commands.default_permissions(manage_guild=True)
    async def pause(self, asking: Asking, everywhere: bool = False) -> None:
        scope = where(asking, everywhere=everywhere)
        await asking.response.defer(ephemeral=True)
        try:
            begun = await self._silence.begin(scope, asking.user.id)
        except StoreError as e:
            await note(self._store, asking, "pause", scope=scope)
            raise Refusal(
                phrase(
                    "I am silent {where}, until I am started anew: {why}",
                    where=named(scope),
                    why=e.args[0],
                )
            ) from e
        finally:
            self._conversations.hush(None if everywhere else scope)
        if begun:
            await note(self._store, asking, "pause", scope=scope)
            text = say(
                "I am silent {where} until `/resume`. {still}", where=named(scope), still=STILL
            )
        else:
            text = say("I was silent {where} already.", where=named(scope))
        await asking.edit_original_response(content=text)

    @app_commands.command(description="Let me speak again")
    @app_commands.describe(everywhere="In all servers and direct messages (for operators)")
    @app_commands.default_permissions(manage_guild=True)
    async def resume(self, asking: Asking, everywhere: bool = False) -> None:
        scope = where(asking, everywhere=everywhere)
        await asking.response.defer(ephemeral=True)
        if await self._silence.end(scope):
            await note(self._store, asking, "resume", scope=scope)
            text = say("I answer {where} again.", where=named(scope))
        else:
            text = say("I was not silent {where}.", where=named(scope))
        if not everywhere and self._silence.holds(scope):
            text = say("{done} But an operator has paused me everywhere.", done=text)
        await asking.edit_original_response(content=text)

    @app_commands.command(description="What managers and operators did, the newest first")
    @app_commands.describe(everywhere="In all servers (for operators)")
    @app_commands.default_permissions(manage_guild=True)
    async def audit(self, asking: Asking, everywhere: bool = False) -> None:
        scope = where(asking, everywhere=everywhere)
        await asking.response.defer(ephemeral=True)
        await AuditPages(self._store, None if everywhere else scope).show(asking)


def where(asking: Asking, *, everywhere: bool) -> int:
    """The scope that is meant, if the caller may decide there.

    Raises:
        Refusal, MissingPermissions, NoPrivateMessage: they may not.
    """
    if everywhere:
        require(asking, Rank.OPERATOR)
        return EVERYWHERE
    if asking.guild_id is None:
        raise app_commands.NoPrivateMessage
    require(asking, Rank.MANAGER)
    return asking.guild_id


def named(scope: int) -> Phrase:
    return phrase("everywhere") if scope == EVERYWHERE else phrase("in this server")

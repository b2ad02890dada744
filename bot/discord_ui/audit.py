"""The audit log: records what managers and operators do, and shows it page by page."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import discord

from bot.discord_ui.client import BotInteraction
from bot.discord_ui.context import scope_of
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.style import BLURPLE, quote_safely
from bot.discord_ui.names import Names, names_of, with_channel_names
from bot.discord_ui.permissions import Rank
from bot.discord_ui.views.confirm import EphemeralView
from core.errors import StoreError
from core.records import AuditEntry
from data.storage.tables.audit import AuditLog
from i18n.phrase import Phrase, phrase
from i18n.reader import say

log = logging.getLogger(__name__)

AUDIT_PAGE_SIZE = 10
"""Entries on one page."""
AUDIT_EMPTY = phrase("Nothing has been done here yet.")
MAX_DETAIL_CHARS = 120
"""Characters of a detail that are shown."""
AUDIT_ACTIONS = (
    phrase("channel enable"),
    phrase("channel disable"),
    phrase("clean retrain later"),
    phrase("clean retrain start"),
    phrase("dataset approve"),
    phrase("dataset edit"),
    phrase("dataset export"),
    phrase("dataset import"),
    phrase("dataset reject"),
    phrase("dataset remove"),
    phrase("duel start"),
    phrase("duel stop"),
    phrase("filter add"),
    phrase("filter remove"),
    phrase("golden add"),
    phrase("golden export"),
    phrase("golden import"),
    phrase("golden overrule"),
    phrase("golden remove"),
    phrase("model delete"),
    phrase("model rollback"),
    phrase("model use"),
    phrase("pause"),
    phrase("resume"),
    phrase("retrain cancel"),
    phrase("retrain pause"),
    phrase("retrain resume"),
    phrase("retrain start"),
    phrase("scheduled retrain off"),
    phrase("scheduled retrain start"),
    phrase("settings change"),
    phrase("settings export"),
)
"""The recorded actions: stored in English, translated when they are shown."""


async def record_audit(
    audit: AuditLog,
    interaction: BotInteraction,
    action: str,
    detail: str = "",
    *,
    scope: int | None = None,
) -> None:
    """Record what the caller has done, by default in the scope of the interaction."""
    where = scope_of(interaction) if scope is None else scope
    await write_audit_entry(audit, where, interaction.user.id, action, detail)


async def write_audit_entry(
    audit: AuditLog, scope: int, actor_id: int, action: str, detail: str = ""
) -> None:
    """Record an action; if that fails, the action stands and goes to the log instead."""
    try:
        await audit.record(scope, actor_id, action, detail)
    except StoreError as e:
        log.error(
            "not in the audit log: %d did %s %s in %d: %s", actor_id, action, detail, scope, e
        )


def audit_line(
    entry: AuditEntry, names: Names, guild: discord.Guild | None, *, everywhere: bool
) -> str:
    """`in 3 minutes ada: model use tiny-3`; `guild` is the server of the entry."""
    who = names.get(entry.actor_id, "—")  # nobody: a forgotten member's job
    at = discord.utils.format_dt(entry.at, "R")
    detail = say(entry.detail) if isinstance(entry.detail, Phrase) else entry.detail
    detail = with_channel_names(detail, guild)
    what = f"{say(entry.action)} {quote_safely(detail, MAX_DETAIL_CHARS)}".strip()
    if not (everywhere and entry.scope):
        return f"{at} {who}: {what}"
    return say(
        "{at} {who} in {server}: {what}",
        at=at,
        who=who,
        server=quote_safely(guild.name, MAX_DETAIL_CHARS) if guild else str(entry.scope),
        what=what,
    )


class AuditPages(EphemeralView):
    """The entries of a scope (None: of all scopes) in pages, newest first."""

    def __init__(self, audit: AuditLog, scope: int | None) -> None:
        super().__init__(Rank.OPERATOR if scope is None else Rank.MANAGER)
        self.newer.label, self.older.label = say("Newer"), say("Older")
        self._audit = audit
        self._scope = scope
        self._page_cursors: list[int | None] = [None]
        self._entries: Sequence[AuditEntry] = ()

    async def show(self, asking: BotInteraction) -> None:
        """Show the current page in the deferred answer."""
        found = await self._audit.entries(self._scope, AUDIT_PAGE_SIZE + 1, self._page_cursors[-1])
        self._entries = found[:AUDIT_PAGE_SIZE]
        self.older.disabled = len(found) <= AUDIT_PAGE_SIZE
        self.newer.disabled = len(self._page_cursors) == 1
        if not found and self.newer.disabled:
            await asking.edit_original_response(content=say(AUDIT_EMPTY))
            return
        names = await names_of(asking, (one.actor_id for one in self._entries))
        text = "\n".join(
            audit_line(
                one, names, asking.client.get_guild(one.scope), everywhere=self._scope is None
            )
            for one in self._entries
        )
        embed = discord.Embed(title=say("What was done"), description=text, colour=BLURPLE)
        one_page = self.older.disabled and self.newer.disabled
        await asking.edit_original_response(embed=embed, view=None if one_page else self)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def newer(self, asking: BotInteraction, _: discord.ui.Button[AuditPages]) -> None:
        await defer(asking)
        if len(self._page_cursors) > 1:
            self._page_cursors.pop()
        await self.show(asking)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def older(self, asking: BotInteraction, _: discord.ui.Button[AuditPages]) -> None:
        await defer(asking)
        if self._entries:
            self._page_cursors.append(self._entries[-1].id)
        await self.show(asking)

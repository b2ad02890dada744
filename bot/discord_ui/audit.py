"""The audit: what managers and operators do is written down, and can be read.

Knows Discord, and how a line reads. Whoever does something says so here, once it is done.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import discord

from bot.discord_ui.client import TellsFailure
from bot.discord_ui.context import scope_here
from bot.discord_ui.embeds.evaluation import quoted
from bot.discord_ui.embeds.style import BLURPLE
from bot.discord_ui.permissions import Asking, Rank, require
from core.errors import StoreError
from core.records import AuditEntry
from data.storage.store import Store
from i18n.phrase import is_phrase, phrase
from i18n.reader import say

log = logging.getLogger(__name__)

PAGE = 10
"""Lines that are shown at a time."""
TIMEOUT_S = 600.0
NOTHING = phrase("Nothing was done here yet.")
MOST = 120
"""Characters of a detail that are shown."""
ACTIONS = (
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
    phrase("filter add"),
    phrase("filter remove"),
    phrase("model delete"),
    phrase("model rollback"),
    phrase("model use"),
    phrase("pause"),
    phrase("resume"),
    phrase("retrain cancel"),
    phrase("retrain pause"),
    phrase("retrain resume"),
    phrase("retrain start"),
)
"""What is written down. It is kept in English, and shown as whoever reads it calls it."""


async def note(
    store: Store, asking: Asking, action: str, detail: str = "", *, scope: int | None = None
) -> None:
    """Write down what the caller has done, in the scope that they are in if none is given."""
    where = scope_here(asking) if scope is None else scope
    await write(store, where, asking.user.id, action, detail)


async def write(store: Store, scope: int, actor_id: int, action: str, detail: str = "") -> None:
    """Write down what somebody has done: it stays done where that fails, and the log has it."""
    try:
        await store.record(scope, actor_id, action, detail)
    except StoreError as e:
        log.error("not in the audit: %d did %s %s in %d: %s", actor_id, action, detail, scope, e)


def audit_line(entry: AuditEntry, *, everywhere: bool) -> str:
    """`in 3 minutes @ada: model use tiny-3`."""
    at = discord.utils.format_dt(entry.at, "R")
    detail = say(entry.detail) if is_phrase(entry.detail) else entry.detail
    what = f"{say(entry.action)} {quoted(detail, MOST)}".strip()
    if not (everywhere and entry.scope):
        return f"{at} <@{entry.actor_id}>: {what}"
    return say(
        "{at} {who} in {server}: {what}",
        at=at,
        who=f"<@{entry.actor_id}>",
        server=str(entry.scope),
        what=what,
    )


class AuditPages(TellsFailure, discord.ui.View):
    """Lines of a scope (None: of all), a page at a time, the newest first."""

    def __init__(self, store: Store, scope: int | None) -> None:
        super().__init__(timeout=TIMEOUT_S)
        self.newer.label, self.older.label = say("Newer"), say("Older")
        self._store = store
        self._scope = scope
        self._starts: list[int | None] = [None]
        self._lines: Sequence[AuditEntry] = ()

    async def show(self, asking: Asking) -> None:
        """Put the page into the answer, which was deferred."""
        found = await self._store.audit(self._scope, PAGE + 1, self._starts[-1])
        self._lines = found[:PAGE]
        self.older.disabled = len(found) <= PAGE
        self.newer.disabled = len(self._starts) == 1
        if not found and self.newer.disabled:
            await asking.edit_original_response(content=say(NOTHING))
            return
        text = "\n".join(audit_line(one, everywhere=self._scope is None) for one in self._lines)
        embed = discord.Embed(title=say("What was done"), description=text, colour=BLURPLE)
        one_page = self.older.disabled and self.newer.disabled
        await asking.edit_original_response(embed=embed, view=None if one_page else self)

    async def interaction_check(self, asking: Asking) -> bool:  # type: ignore[override]
        require(asking, Rank.MANAGER if self._scope is not None else Rank.OPERATOR)
        return await super().interaction_check(asking)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def newer(self, asking: Asking, _: discord.ui.Button[AuditPages]) -> None:
        await asking.response.defer()
        if len(self._starts) > 1:
            self._starts.pop()
        await self.show(asking)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def older(self, asking: Asking, _: discord.ui.Button[AuditPages]) -> None:
        await asking.response.defer()
        if self._lines:
            self._starts.append(self._lines[-1].id)
        await self.show(asking)

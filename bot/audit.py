"""The audit: what managers and operators do is written down, and can be read.

Knows Discord, and how a line reads. Whoever does something says so here, once it is done.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import discord

from bot.client import TellsFailure
from bot.looks import BLURPLE
from bot.outcome import quoted
from bot.pressed import scope_here
from bot.roles import Asking, Rank, require
from data.errors import StoreError
from data.schema import AuditEntry
from data.store import Store

log = logging.getLogger(__name__)

PAGE = 10
"""Lines that are shown at a time."""
TIMEOUT_S = 600.0
NOTHING = "Nothing was done here yet."
MOST = 120
"""Characters of a detail that are shown."""


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
    where = f" in {entry.scope}" if everywhere and entry.scope else ""
    what = f"{entry.action} {quoted(entry.detail, MOST)}".strip()
    return f"{discord.utils.format_dt(entry.at, 'R')} <@{entry.actor_id}>{where}: {what}"


class AuditPages(TellsFailure, discord.ui.View):
    """Lines of a scope (None: of all), a page at a time, the newest first."""

    def __init__(self, store: Store, scope: int | None) -> None:
        super().__init__(timeout=TIMEOUT_S)
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
            await asking.edit_original_response(content=NOTHING)
            return
        text = "\n".join(audit_line(one, everywhere=self._scope is None) for one in self._lines)
        embed = discord.Embed(title="What was done", description=text, colour=BLURPLE)
        one_page = self.older.disabled and self.newer.disabled
        await asking.edit_original_response(embed=embed, view=None if one_page else self)

    async def interaction_check(self, asking: Asking) -> bool:  # type: ignore[override]
        require(asking, Rank.MANAGER if self._scope is not None else Rank.OPERATOR)
        return await super().interaction_check(asking)

    @discord.ui.button(label="Newer", style=discord.ButtonStyle.secondary)
    async def newer(self, asking: Asking, _: discord.ui.Button[AuditPages]) -> None:
        await asking.response.defer()
        if len(self._starts) > 1:
            self._starts.pop()
        await self.show(asking)

    @discord.ui.button(label="Older", style=discord.ButtonStyle.secondary)
    async def older(self, asking: Asking, _: discord.ui.Button[AuditPages]) -> None:
        await asking.response.defer()
        if self._lines:
            self._starts.append(self._lines[-1].id)
        await self.show(asking)

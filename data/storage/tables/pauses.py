"""The scopes in which somebody paused the bot."""

from __future__ import annotations

from data.storage.connection import Repository, utc_now_iso

EVERYWHERE = 0
"""The scope of a pause in all scopes; no guild or user has this id."""


class PauseTable(Repository):
    """The scopes that are paused."""

    async def add(self, scope: int, paused_by: int) -> bool:
        """Pause a scope, or EVERYWHERE; False if it was paused already."""
        sql = "INSERT OR IGNORE INTO pauses (scope, paused_by, paused_at) VALUES (?, ?, ?)"
        return bool(await self._execute(sql, scope, paused_by, utc_now_iso()))

    async def remove(self, scope: int) -> bool:
        """End a pause; False if there was none."""
        return bool(await self._execute("DELETE FROM pauses WHERE scope = ?", scope))

    async def scopes(self) -> set[int]:
        """The paused scopes, possibly with EVERYWHERE."""
        return {row[0] for row in await self._fetch_all("SELECT scope FROM pauses")}

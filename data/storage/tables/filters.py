"""The words and patterns that replies must not contain."""

from __future__ import annotations

from core.records import Filter, FilterKind
from data.storage.connection import Repository, utc_now_iso


class FilterTable(Repository):
    """The filters of all scopes."""

    async def add(self, scope: int, one: Filter, added_by: int) -> bool:
        """Add a filter to a scope; False if it has it already."""
        sql = "INSERT OR IGNORE INTO filters VALUES (?, ?, ?, ?, ?)"
        return bool(await self._execute(sql, scope, one.kind, one.pattern, added_by, utc_now_iso()))

    async def remove(self, scope: int, one: Filter) -> bool:
        """Remove a filter; False if the scope does not have it."""
        sql = "DELETE FROM filters WHERE scope = ? AND kind = ? AND pattern = ?"
        return bool(await self._execute(sql, scope, one.kind, one.pattern))

    async def all(self, scope: int) -> list[Filter]:
        """The filters of a scope, in alphabetical order."""
        sql = "SELECT kind, pattern FROM filters WHERE scope = ? ORDER BY kind, pattern"
        return [Filter(FilterKind(row[0]), row[1]) for row in await self._fetch_all(sql, scope)]

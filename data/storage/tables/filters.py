"""What replies must not say in a scope: words, and patterns.

Knows SQL. Does not know how a reply is kept from saying them.
"""

from __future__ import annotations

from core.records import Filter, FilterKind
from data.storage.connection import Repository, utc_now_iso


class Filters(Repository):
    """The words and patterns of all scopes."""

    async def add(self, scope: int, one: Filter, added_by: int) -> bool:
        """Forbid a word or a pattern in a scope; False if it was forbidden already."""
        sql = "INSERT OR IGNORE INTO filters VALUES (?, ?, ?, ?, ?)"
        return bool(await self._execute(sql, scope, one.kind, one.pattern, added_by, utc_now_iso()))

    async def remove(self, scope: int, one: Filter) -> bool:
        """Allow it again; False if it was not forbidden."""
        sql = "DELETE FROM filters WHERE scope = ? AND kind = ? AND pattern = ?"
        return bool(await self._execute(sql, scope, one.kind, one.pattern))

    async def all(self, scope: int) -> list[Filter]:
        """All that is forbidden in a scope, in alphabetical order."""
        sql = "SELECT kind, pattern FROM filters WHERE scope = ? ORDER BY kind, pattern"
        return [Filter(FilterKind(row[0]), row[1]) for row in await self._fetch_all(sql, scope)]

"""The audit: what managers and operators did, line after line.

Knows SQL. A line is never changed and never erased: the database itself refuses both.
"""

from __future__ import annotations

from datetime import datetime

from data.connection import Table, now
from data.schema import AuditEntry


class Audit(Table):
    """Who did what where."""

    async def record(self, scope: int, actor_id: int, action: str, detail: str = "") -> None:
        """Write down that somebody did something, such as `model use` with the detail `gpt2-3`."""
        await self._changed(
            "INSERT INTO audit (at, scope, actor_id, action, detail) VALUES (?, ?, ?, ?, ?)",
            now(),
            scope,
            actor_id,
            action,
            detail,
        )

    async def audit(
        self, scope: int | None, count: int, before: int | None = None
    ) -> list[AuditEntry]:
        """The newest `count` lines of a scope (None: of all), newest first; those with an id below
        `before`, if it is given."""
        sql = """
            SELECT id, at, scope, actor_id, action, detail FROM audit
            WHERE (?1 IS NULL OR scope = ?1) AND (?2 IS NULL OR id < ?2)
            ORDER BY id DESC LIMIT ?3
        """
        return [
            AuditEntry(row[0], datetime.fromisoformat(row[1]), *row[2:])
            for row in await self._rows(sql, scope, before, count)
        ]

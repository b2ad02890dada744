"""The audit log: what managers and operators did.

Append only: triggers in the database refuse to change or delete a row.
"""

from __future__ import annotations

from datetime import datetime

from core.records import AuditEntry
from data.storage.connection import Repository, utc_now_iso
from i18n.phrase import deserialize_phrase, serialize_phrase


class AuditLog(Repository):
    """The entries of all scopes."""

    async def record(self, scope: int, actor_id: int, action: str, detail: str = "") -> None:
        """Record an action, such as `model use` with the detail `gpt2-3`. A detail that is a Phrase
        comes back as one."""
        sql = "INSERT INTO audit (at, scope, actor_id, action, detail) VALUES (?, ?, ?, ?, ?)"
        await self._execute(sql, utc_now_iso(), scope, actor_id, action, serialize_phrase(detail))

    async def entries(
        self, scope: int | None, count: int, before_id: int | None = None
    ) -> list[AuditEntry]:
        """The newest `count` entries of a scope (None: of all) below `before_id`, newest first."""
        sql = """
            SELECT id, at, scope, actor_id, action, detail FROM audit
            WHERE (?1 IS NULL OR scope = ?1) AND (?2 IS NULL OR id < ?2)
            ORDER BY id DESC LIMIT ?3
        """
        rows = await self._fetch_all(sql, scope, before_id, count)
        return [
            AuditEntry(n, datetime.fromisoformat(at), of, actor, action, deserialize_phrase(detail))
            for n, at, of, actor, action, detail in rows
        ]

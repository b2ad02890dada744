"""The ledger of consents: who let their words be learned, when, and until when.

Knows SQL. Does not know what is learned: that is `data.storage.tables.examples`, which asks here by
SQL. A line is never changed but for the moment of its withdrawal. The newest line of a member in a
scope that was not withdrawn is the standing consent.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from core.records import Consent
from data.storage.connection import Repository, utc_now_iso


class Consents(Repository):
    """The consents of all members; each holds in one scope."""

    async def opt_in(self, scope: int, user_id: int, version: int) -> None:
        """A member agrees to this version of the text; agreeing twice is one consent."""
        await self._execute(
            """
            INSERT INTO consents (scope, user_id, version, given_at) SELECT ?1, ?2, ?3, ?4
            WHERE ?3 IS NOT (
                SELECT version FROM consents
                WHERE scope = ?1 AND user_id = ?2 AND withdrawn_at IS NULL
                ORDER BY id DESC LIMIT 1
            )
            """,
            scope,
            user_id,
            version,
            utc_now_iso(),
        )

    async def opt_out(self, scope: int, user_id: int) -> bool:
        """A member withdraws their consent, of every version; False if none stood."""
        sql = """
            UPDATE consents SET withdrawn_at = ?
            WHERE scope = ? AND user_id = ? AND withdrawn_at IS NULL
        """
        return bool(await self._execute(sql, utc_now_iso(), scope, user_id))

    async def active(self, scope: int, user_id: int) -> Consent | None:
        """The standing consent."""
        rows = await self._fetch_all(
            """
            SELECT scope, user_id, version, given_at, withdrawn_at FROM consents
            WHERE scope = ? AND user_id = ? AND withdrawn_at IS NULL ORDER BY id DESC LIMIT 1
            """,
            scope,
            user_id,
        )
        return _consent(rows[0]) if rows else None

    async def history(self, user_id: int) -> list[Consent]:
        """All that a member ever agreed to, in every scope, oldest first."""
        sql = """
            SELECT scope, user_id, version, given_at, withdrawn_at FROM consents
            WHERE user_id = ? ORDER BY id
        """
        return [_consent(row) for row in await self._fetch_all(sql, user_id)]


def _consent(row: sqlite3.Row) -> Consent:
    return Consent(
        scope=row["scope"],
        user_id=row["user_id"],
        version=row["version"],
        given_at=datetime.fromisoformat(row["given_at"]),
        withdrawn_at=datetime.fromisoformat(row["withdrawn_at"]) if row["withdrawn_at"] else None,
    )

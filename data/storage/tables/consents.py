"""The ledger of consents: who let their words be learned, and from when until when.

A row never changes, except to record its withdrawal. A member's newest row in a scope that was not
withdrawn is the active consent. `data.storage.tables.examples` reads this table in its own SQL.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from core.records import Consent
from data.storage.connection import Repository, utc_now_iso


class Consents(Repository):
    """The consents of all members; each is valid in one scope."""

    async def opt_in(self, scope: int, user_id: int, version: int) -> None:
        """A member agrees to this version of the text; agreeing again changes nothing."""
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
        """A member withdraws their consent, of every version; False if none was active."""
        sql = """
            UPDATE consents SET withdrawn_at = ?
            WHERE scope = ? AND user_id = ? AND withdrawn_at IS NULL
        """
        return bool(await self._execute(sql, utc_now_iso(), scope, user_id))

    async def active(self, scope: int, user_id: int) -> Consent | None:
        """The active consent."""
        row = await self._fetch_one(
            """
            SELECT scope, user_id, version, given_at, withdrawn_at FROM consents
            WHERE scope = ? AND user_id = ? AND withdrawn_at IS NULL ORDER BY id DESC LIMIT 1
            """,
            scope,
            user_id,
        )
        return _consent(row) if row else None

    async def history(self, user_id: int) -> list[Consent]:
        """Every consent that a member ever gave, in all scopes, oldest first."""
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

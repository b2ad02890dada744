"""The ledger of consents: who let their words be learned, and from when until when.

A row never changes, except to record its withdrawal. A member's newest row in a scope that was not
withdrawn is the active consent. `data.storage.tables.examples` reads this table in its own SQL.
"""

from __future__ import annotations

from datetime import datetime

from core.records import Consent
from data.storage.connection import Repository, utc_now_iso


class Consents(Repository):
    """The consents of all members; each is valid in one scope."""

    async def opt_in(self, scope: int, user_id: int, version: int) -> None:
        """A member agrees to this version of the text; agreeing again changes nothing."""
        sql = """
            INSERT INTO consents (scope, user_id, version, given_at) SELECT ?1, ?2, ?3, ?4
            WHERE ?3 IS NOT (
                SELECT version FROM consents
                WHERE scope = ?1 AND user_id = ?2 AND withdrawn_at IS NULL
                ORDER BY id DESC LIMIT 1
            )
        """
        await self._execute(sql, scope, user_id, version, utc_now_iso())

    async def opt_out(self, scope: int | None, user_id: int) -> int:
        """A member withdraws their consent, of every version, in a scope (None: in all); return
        how many were active."""
        sql = """
            UPDATE consents SET withdrawn_at = ?1
            WHERE user_id = ?2 AND (?3 IS NULL OR scope = ?3) AND withdrawn_at IS NULL
        """
        return await self._execute(sql, utc_now_iso(), user_id, scope)

    async def active(self, scope: int, user_id: int) -> Consent | None:
        """The active consent."""
        given = [one for one in await self.history(user_id) if one.scope == scope]
        return next((one for one in reversed(given) if one.withdrawn_at is None), None)

    async def history(self, user_id: int) -> list[Consent]:
        """Every consent that a member ever gave, in all scopes, oldest first."""
        sql = """
            SELECT scope, user_id, version, given_at, withdrawn_at FROM consents
            WHERE user_id = ? ORDER BY id
        """
        return [
            Consent(scope, user, version, datetime.fromisoformat(given), _moment(withdrawn))
            for scope, user, version, given, withdrawn in await self._fetch_all(sql, user_id)
        ]


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

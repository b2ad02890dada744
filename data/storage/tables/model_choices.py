"""Which models each scope chose, as a stack: a choice can be rolled back."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

import aiosqlite

from data.storage.connection import Repository, utc_now_iso


class ModelChoices(Repository):
    """The choices of every scope."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        super().__init__(db)
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    def lock(self, scope: int) -> asyncio.Lock:
        """Held by whoever loads a model to choose it, or removes one that is not chosen: no model
        may be removed between its check and its choice."""
        return self._locks.setdefault(scope, asyncio.Lock())

    async def active(self, scope: int) -> str | None:
        """The name of the scope's current model; None if it never chose one."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT 1"
        row = await self._fetch_one(sql, scope)
        return row[0] if row else None

    async def set_active(self, scope: int, name: str) -> None:
        """Push a choice, unless it is the current one already."""
        sql = """
            INSERT INTO activations (scope, name, created_at) SELECT ?1, ?2, ?3
            WHERE ?2 IS NOT
                (SELECT name FROM activations WHERE scope = ?1 ORDER BY id DESC LIMIT 1)
        """
        await self._execute(sql, scope, name, utc_now_iso())

    async def roll_back(self, scope: int) -> str | None:
        """Pop the scope's newest choice; return the one before, which is now current. None if there
        is none before it: then the choice stays."""
        sql = """
            DELETE FROM activations
            WHERE id = (SELECT max(id) FROM activations WHERE scope = ?1)
              AND id > (SELECT min(id) FROM activations WHERE scope = ?1)
            RETURNING (
                SELECT name FROM activations AS before
                WHERE scope = ?1 AND before.id < activations.id ORDER BY id DESC LIMIT 1
            )
        """
        row = await self._fetch_one(sql, scope)
        return row[0] if row else None

    async def previous(self, scope: int) -> list[str]:
        """The scope's earlier choices, newest first."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT -1 OFFSET 1"
        return [row[0] for row in await self._fetch_all(sql, scope)]

    async def all_active(self) -> set[tuple[int, str]]:
        """The current choice of every scope that made one."""
        sql = """
            SELECT scope, name FROM activations
            WHERE id IN (SELECT max(id) FROM activations GROUP BY scope)
        """
        return {(row[0], row[1]) for row in await self._fetch_all(sql)}

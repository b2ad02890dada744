"""Which model each scope chose, newest last, so that a choice can be rolled back. Knows SQL."""

from __future__ import annotations

from data.storage.connection import Repository, utc_now_iso


class ModelChoices(Repository):
    """The choices of every scope."""

    async def active(self, scope: int) -> str | None:
        """The name of the model that the scope chose last; None if it never did."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT 1"
        rows = await self._fetch_all(sql, scope)
        return rows[0][0] if rows else None

    async def set_active(self, scope: int, name: str) -> None:
        """Remember the scope's choice as its newest, unless it is that already."""
        await self._fetch_all(
            """
            INSERT INTO activations (scope, name, created_at) SELECT ?1, ?2, ?3
            WHERE ?2 IS NOT
                (SELECT name FROM activations WHERE scope = ?1 ORDER BY id DESC LIMIT 1)
            """,
            scope,
            name,
            utc_now_iso(),
        )

    async def roll_back(self, scope: int) -> str | None:
        """Drop the scope's newest choice; the one that counts now.

        None if there was none before it: then nothing is dropped.
        """
        rows = await self._fetch_all(
            """
            DELETE FROM activations
            WHERE id = (SELECT max(id) FROM activations WHERE scope = ?1)
              AND id > (SELECT min(id) FROM activations WHERE scope = ?1)
            RETURNING (
                SELECT name FROM activations AS before
                WHERE scope = ?1 AND before.id < activations.id ORDER BY id DESC LIMIT 1
            )
            """,
            scope,
        )
        return rows[0][0] if rows else None

    async def previous(self, scope: int) -> list[str]:
        """What the scope chose before its present model, newest first."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT -1 OFFSET 1"
        return [row[0] for row in await self._fetch_all(sql, scope)]

    async def all_active(self) -> set[tuple[int, str]]:
        """Each scope that ever chose a model, and the model that it chose last."""
        sql = """
            SELECT scope, name FROM activations
            WHERE id IN (SELECT max(id) FROM activations GROUP BY scope)
        """
        return {(row[0], row[1]) for row in await self._fetch_all(sql)}

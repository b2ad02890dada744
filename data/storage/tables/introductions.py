"""The servers in which the bot has introduced itself."""

from __future__ import annotations

from data.storage.connection import Repository, utc_now_iso


class Introductions(Repository):
    """One row for each server; `Erasures.purge_batch` erases them when they are old."""

    async def claim(self, guild_id: int) -> bool:
        """Record an introduction before it is posted; False if there has been one.

        Of several callers at the same time, one gets True.
        """
        sql = "INSERT OR IGNORE INTO introductions (guild_id, created_at) VALUES (?, ?)"
        return bool(await self._execute(sql, guild_id, utc_now_iso()))

    async def release(self, guild_id: int) -> None:
        """Take a claim back: nothing was posted."""
        await self._execute("DELETE FROM introductions WHERE guild_id = ?", guild_id)

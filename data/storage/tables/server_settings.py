"""What the managers of each server chose: a row for each field, so that two managers who change
different ones at once never undo each other's choice."""

from __future__ import annotations

from data.storage.connection import Repository, utc_now_iso


class ServerSettingsTable(Repository):
    """The chosen values; what nobody chose has no row."""

    async def all(self) -> list[tuple[int, str, str]]:
        """The server, the name of the field, and its value."""
        rows = await self._fetch_all("SELECT guild_id, name, value FROM server_settings")
        return [(row[0], row[1], row[2]) for row in rows]

    async def set(self, guild_id: int, name: str, value: str) -> None:
        """Choose a value."""
        sql = """
            INSERT INTO server_settings (guild_id, name, value, changed_at) VALUES (?, ?, ?, ?)
            ON CONFLICT (guild_id, name) DO UPDATE
                SET value = excluded.value, changed_at = excluded.changed_at
        """
        await self._execute(sql, guild_id, name, value, utc_now_iso())

    async def remove(self, guild_id: int) -> None:
        """Forget all that was chosen for a server."""
        await self._execute("DELETE FROM server_settings WHERE guild_id = ?", guild_id)

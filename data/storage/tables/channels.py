"""The channels in which the bot answers every message."""

from __future__ import annotations

from data.storage.connection import Repository


class Channels(Repository):
    """The enabled channels."""

    async def set_enabled(self, channel_id: int, guild_id: int, enabled: bool) -> None:
        """Set whether the bot answers every message in a channel."""
        sql = """
            INSERT INTO channels (channel_id, guild_id, enabled) VALUES (?, ?, ?)
            ON CONFLICT (channel_id) DO UPDATE SET enabled = excluded.enabled
        """
        await self._execute(sql, channel_id, guild_id, enabled)

    async def enabled(self) -> set[int]:
        """The ids of the channels in which the bot answers every message."""
        rows = await self._fetch_all("SELECT channel_id FROM channels WHERE enabled")
        return {row[0] for row in rows}

    async def enabled_with_servers(self) -> dict[int, int]:
        """The same ids, each with the id of its server."""
        rows = await self._fetch_all("SELECT channel_id, guild_id FROM channels WHERE enabled")
        return {row[0]: row[1] for row in rows}

    async def remove_server(self, guild_id: int) -> None:
        """Forget the channels of a server."""
        await self._execute("DELETE FROM channels WHERE guild_id = ?", guild_id)

"""The channels in which the bot answers every message. Kept in memory, because every message asks
for them."""

from __future__ import annotations

from data.storage.tables.channels import Channels


class EnabledChannels:
    """The enabled channels of all servers."""

    def __init__(self, table: Channels) -> None:
        self._table = table
        self._servers: dict[int, int] = {}

    async def load(self) -> None:
        """Read what was enabled before the bot was started."""
        self._servers = await self._table.enabled_with_servers()

    def __contains__(self, channel_id: object) -> bool:
        return channel_id in self._servers

    def everywhere(self) -> set[int]:
        """The ids of all of them."""
        return set(self._servers)

    def in_server(self, guild_id: int) -> list[int]:
        """The ids of a server's, the oldest channel first."""
        return sorted(one for one, server in self._servers.items() if server == guild_id)

    async def switch(self, channel_id: int, guild_id: int, *, enabled: bool) -> None:
        """Enable or disable a channel.

        Raises:
            StoreError: nothing changes.
        """
        await self._table.set_enabled(channel_id, guild_id, enabled)
        if enabled:
            self._servers[channel_id] = guild_id
        else:
            self._servers.pop(channel_id, None)

    async def forget(self, guild_id: int) -> None:
        """Forget those of a server."""
        await self._table.remove_server(guild_id)
        for channel_id in self.in_server(guild_id):
            del self._servers[channel_id]

"""What has to be remembered from one run of the bot to the next."""

from __future__ import annotations

from datetime import datetime

from data.storage.connection import Repository, to_utc_iso

ERASURES, TRUSTED_TIME = "erasures", "time"
SET_SQL = """
    INSERT INTO marks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


class Marks(Repository):
    """Single values, by name."""

    async def erasures(self) -> int:
        """The number of the last erasure that was done in this database: an order that no clock
        can change. A backup has a lower one than the database from which it was made since."""
        return int(await self._value(ERASURES) or "0")

    async def set_erasures(self, number: int) -> None:
        await self._execute(SET_SQL, ERASURES, number)

    async def trusted_time(self) -> datetime | None:
        """The last time that was known to be right."""
        value = await self._value(TRUSTED_TIME)
        return datetime.fromisoformat(value) if value else None

    async def set_trusted_time(self, moment: datetime) -> None:
        await self._execute(SET_SQL, TRUSTED_TIME, to_utc_iso(moment))

    async def _value(self, name: str) -> str | None:
        row = await self._fetch_one("SELECT value FROM marks WHERE name = ?", name)
        return str(row[0]) if row else None

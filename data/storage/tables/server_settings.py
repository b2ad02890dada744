"""What the managers of each server chose: a row for each field, so that two managers who change
different ones at once never undo each other's choice. And how far the schedule of retrains is."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from core.server_settings import Schedule
from data.storage.connection import Repository, to_utc_iso, utc_now_iso
from i18n.phrase import deserialize_phrase, serialize_phrase


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


class Schedules(Repository):
    """The schedules of retrains, one for each server where one was ever chosen."""

    async def all(self) -> list[Schedule]:
        """Those of all servers."""
        rows = await self._fetch_all("SELECT * FROM schedules ORDER BY scope")
        return [_schedule(row) for row in rows]

    async def get(self, scope: int) -> Schedule | None:
        """That of a server."""
        row = await self._fetch_one("SELECT * FROM schedules WHERE scope = ?", scope)
        return _schedule(row) if row else None

    async def choose(self, scope: int, chosen_by: int, channel_id: int, now: datetime) -> None:
        """Remember who chooses the schedule, and where. Which night was the last one stays."""
        sql = """
            INSERT INTO schedules (scope, chosen_by, channel_id, since) VALUES (?, ?, ?, ?)
            ON CONFLICT (scope) DO UPDATE SET chosen_by = excluded.chosen_by,
                channel_id = excluded.channel_id, since = excluded.since, skipped = NULL
        """
        await self._execute(sql, scope, chosen_by, channel_id, to_utc_iso(now))

    async def settle(self, schedule: Schedule, night: datetime, why: str | None) -> bool:
        """Decide about a night; `why` it is skipped. False if the schedule has changed since it was
        read: of several callers with the same one, one gets True."""
        sql = """
            UPDATE schedules SET last_night = ?, skipped = ?
            WHERE scope = ? AND since = ? AND last_night IS ?
        """
        last = None if schedule.last_night is None else to_utc_iso(schedule.last_night)
        known = (schedule.scope, to_utc_iso(schedule.since), last)
        return bool(await self._execute(sql, to_utc_iso(night), _stored(why), *known))

    async def explain(self, scope: int, why: str | None) -> None:
        """Change why the last night was skipped; None: it was not."""
        sql = "UPDATE schedules SET skipped = ? WHERE scope = ?"
        await self._execute(sql, _stored(why), scope)

    async def correct_future(self, now: datetime) -> None:
        """Date what was decided while the clock was ahead as decided now: else nothing would be
        decided again until that time comes."""
        sql = """
            UPDATE schedules SET since = min(since, ?1), last_night = min(last_night, ?1)
            WHERE since > ?1 OR last_night > ?1
        """
        await self._execute(sql, to_utc_iso(now))

    async def remove(self, scope: int) -> None:
        """Forget the schedule of a server."""
        await self._execute("DELETE FROM schedules WHERE scope = ?", scope)


def _stored(why: str | None) -> str | None:
    return None if why is None else serialize_phrase(why)


def _schedule(row: sqlite3.Row) -> Schedule:
    last, skipped = row["last_night"], row["skipped"]
    return Schedule(
        row["scope"],
        row["chosen_by"],
        row["channel_id"],
        datetime.fromisoformat(row["since"]),
        datetime.fromisoformat(last) if last else None,
        deserialize_phrase(skipped) if skipped else None,
    )

"""Erasing a member's words, and what is too old, in batches. Knows SQL.

The only part that deletes from the tables of the others: what has to go when a member wants to be
forgotten is in one place. `data.storage.erasure` says in which order, and how often.
"""

from __future__ import annotations

from datetime import datetime

from core.records import ErasureResult
from data.storage.connection import Repository, to_utc_iso, utc_now_iso


class Erasures(Repository):
    """The erasures under way, and their steps."""

    async def last_write_time(self) -> datetime | None:
        """When the newest of what is kept was written; None if there is nothing."""
        sql = """
            SELECT max(at) FROM (
                SELECT max(created_at) AS at FROM messages
                UNION ALL SELECT max(created_at) FROM examples
                UNION ALL SELECT max(at) FROM audit
            )
        """
        [row] = await self._fetch_all(sql)
        return datetime.fromisoformat(row[0]) if row[0] else None

    async def begin(self, user_id: int) -> None:
        """Remember that a member is to be forgotten, until `end_erasure`."""
        sql = "INSERT INTO forgettings VALUES (?, ?) ON CONFLICT (user_id) DO NOTHING"
        await self._execute(sql, user_id, utc_now_iso())

    async def unfinished(self) -> list[int]:
        """The members whose forgetting has begun and not ended, in the order of asking."""
        rows = await self._fetch_all("SELECT user_id FROM forgettings ORDER BY asked_at, user_id")
        return [row[0] for row in rows]

    async def end(self, user_id: int) -> None:
        """All of a member is gone."""
        await self._execute("DELETE FROM forgettings WHERE user_id = ?", user_id)

    async def withdraw_consents(self, user_id: int) -> int:
        """Withdraw what a member agreed to, in every scope; how many consents stood."""
        sql = "UPDATE consents SET withdrawn_at = ? WHERE user_id = ? AND withdrawn_at IS NULL"
        return await self._execute(sql, utc_now_iso(), user_id)

    async def erase_batch(self, user_id: int, limit: int) -> ErasureResult:
        """Erase up to `limit` of each kind of what holds words of a member, in every scope.

        Nothing is left once it erases nothing. The member's own messages go first, since a reply is
        recorded only while what it answers is there (`Messages.add`, `Replies.add`). A record leads
        to the reply's message, so it goes when that is gone and can no longer come.
        """
        messages = await self._execute(
            """
            DELETE FROM messages WHERE id IN
                (SELECT id FROM messages WHERE author_id = ? LIMIT ?)
            """,
            user_id,
            limit,
        )
        await self._execute(
            """
            DELETE FROM messages WHERE discord_id IN
                (SELECT reply_id FROM replies WHERE asked_by = ? ORDER BY rowid LIMIT ?)
            """,
            user_id,
            limit,
        )
        replies = await self._execute(
            """
            DELETE FROM replies WHERE reply_id IN (
                SELECT reply_id FROM replies WHERE asked_by = ?1 AND NOT EXISTS (
                    SELECT 1 FROM messages
                    WHERE discord_id = reply_id OR (discord_id = asked_id AND author_id = ?1)
                )
                LIMIT ?2
            )
            """,
            user_id,
            limit,
        )
        examples = await self._execute(
            """
            DELETE FROM examples WHERE id IN
                (SELECT id FROM examples WHERE asked_by = ?1 OR author_id = ?1 LIMIT ?2)
            """,
            user_id,
            limit,
        )
        ratings = await self._execute(
            """
            DELETE FROM ratings WHERE user_id = ?1 AND reply_id IN
                (SELECT reply_id FROM ratings WHERE user_id = ?1 LIMIT ?2)
            """,
            user_id,
            limit,
        )
        return ErasureResult(messages=messages, replies=replies, examples=examples, ratings=ratings)

    async def purge_batch(self, before: datetime, limit: int) -> int:
        """Erase up to `limit` messages and as many records of replies that are older; how many.

        Examples stay: those who look after the data set decide about them.
        """
        moment = to_utc_iso(before)
        messages, replies = [
            await self._execute(
                f"""
                DELETE FROM {table} WHERE rowid IN
                    (SELECT rowid FROM {table} WHERE created_at < ? LIMIT ?)
                """,
                moment,
                limit,
            )
            for table in ("messages", "replies")
        ]
        return messages + replies

    async def truncate_wal(self) -> bool:
        """Move all that was written into the database itself and cut SQLite's log to nothing.

        What was erased is still in the log until then. False if another program reads the database
        and so keeps the log.
        """
        [row] = await self._fetch_all("PRAGMA wal_checkpoint(TRUNCATE)")
        return not row[0]

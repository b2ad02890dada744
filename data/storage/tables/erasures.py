"""Erasures of members' data: which are under way, and their steps in batches.

Deletes from the other tables, so that everything an erasure removes is listed in one place.
`data.storage.erasure` runs the steps in order.
"""

from __future__ import annotations

from datetime import datetime

from core.records import ErasureResult
from data.storage.connection import Repository, to_utc_iso, utc_now_iso


class Erasures(Repository):
    """The erasures under way, and the statements that erase."""

    async def last_write_time(self) -> datetime | None:
        """The time of the newest row, or None in an empty database."""
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
        """Remember that a member is being erased, until `end`."""
        sql = "INSERT INTO forgettings VALUES (?, ?) ON CONFLICT (user_id) DO NOTHING"
        await self._execute(sql, user_id, utc_now_iso())

    async def unfinished(self) -> list[int]:
        """The members whose erasure has begun and not ended, oldest first."""
        rows = await self._fetch_all("SELECT user_id FROM forgettings ORDER BY asked_at, user_id")
        return [row[0] for row in rows]

    async def end(self, user_id: int) -> None:
        """Record that a member is erased completely."""
        await self._execute("DELETE FROM forgettings WHERE user_id = ?", user_id)

    async def withdraw_consents(self, user_id: int) -> int:
        """Withdraw a member's consents in every scope; return how many were active."""
        sql = "UPDATE consents SET withdrawn_at = ? WHERE user_id = ? AND withdrawn_at IS NULL"
        return await self._execute(sql, utc_now_iso(), user_id)

    async def erase_batch(self, user_id: int, limit: int) -> ErasureResult:
        """Erase up to `limit` rows of each kind that hold a member's words, in every scope.

        An empty result means that nothing is left. The order closes a race with a reply that is
        being written: first the member's own messages go, because a reply is stored only while the
        message that it answers exists (`Messages.add`, `Replies.add`). The record of a reply, which
        leads to the reply's message, goes last, when that message is gone and cannot come back.
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
        """Erase up to `limit` older messages and reply records each; return how many.

        Examples stay: the data set's managers decide about them.
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
        """Empty SQLite's write-ahead log, which still holds what was erased.

        False if another program is reading the database, which keeps the log.
        """
        [row] = await self._fetch_all("PRAGMA wal_checkpoint(TRUNCATE)")
        return not row[0]

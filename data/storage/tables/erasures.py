"""Erasures of members' data: which are under way, and their steps in batches.

Deletes from the other tables, so that everything an erasure removes is listed in one place.
`data.storage.erasure` runs the steps in order.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from core.records import ErasureResult
from data.storage.connection import Repository, to_utc_iso, utc_now_iso
from data.storage.tables.examples import inherit_sql

ERASE_SQL = {
    "messages": """
        DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE author_id = ?1 LIMIT ?2)
    """,
    "reply_messages": """
        DELETE FROM messages WHERE discord_id IN
            (SELECT reply_id FROM replies WHERE asked_by = ?1 ORDER BY rowid LIMIT ?2)
    """,
    "replies": """
        DELETE FROM replies WHERE reply_id IN (
            SELECT reply_id FROM replies WHERE asked_by = ?1 AND NOT EXISTS (
                SELECT 1 FROM messages
                WHERE discord_id = reply_id OR (discord_id = asked_id AND author_id = ?1)
            )
            LIMIT ?2
        )
    """,
    "sources": """
        DELETE FROM example_sources WHERE (example_id, author_id) IN (
            SELECT example_id, author_id FROM example_sources
            WHERE author_id = ?1 OR asked_by = ?1 LIMIT ?2
        )
    """,
    "inherited": inherit_sql("author_id = ?1"),
    "examples": """
        DELETE FROM examples WHERE id IN
            (SELECT id FROM examples WHERE asked_by = ?1 OR author_id = ?1 LIMIT ?2)
    """,
    "ratings": """
        DELETE FROM ratings WHERE user_id = ?1 AND reply_id IN
            (SELECT reply_id FROM ratings WHERE user_id = ?1 LIMIT ?2)
    """,
    "duel_votes": """
        DELETE FROM duel_pairs WHERE reply_id IN
            (SELECT reply_id FROM duel_pairs WHERE voter_id = ?1 LIMIT ?2)
    """,
}
"""Each deletes up to ?2 rows of member ?1. In the order in which they must run: a reply is stored
only while the message that it answers exists (`Messages.add`, `Replies.add`), so the member's own
messages go first. A reply's record, which leads to the reply's message, goes when that message is
gone and cannot come back. What somebody else has taught as well becomes theirs."""
ANONYMIZE_SQL = (
    "UPDATE filters SET added_by = 0 WHERE added_by = ?",
    "UPDATE golden_questions SET added_by = 0 WHERE added_by = ?",
    "UPDATE pauses SET paused_by = 0 WHERE paused_by = ?",
    "UPDATE jobs SET requested_by = 0 WHERE requested_by = ?",
    "UPDATE schedules SET chosen_by = 0 WHERE chosen_by = ?",
)
"""What a server needs stays without who did it; 0 is no member. The audit names them."""
EXPIRING_TABLES = ("messages", "replies", "reply_faults", "introductions")
"""Whose rows are erased once they are older than RETENTION_DAYS, by their `created_at`."""


class Erasures(Repository):
    """The erasures under way, and the statements that erase."""

    async def last_write_time(self) -> datetime | None:
        """The time of the newest row, or None in an empty database."""
        sql = """
            SELECT max(at) FROM (
                SELECT max(created_at) AS at FROM messages
                UNION ALL SELECT max(created_at) FROM replies
                UNION ALL SELECT max(created_at) FROM examples
                UNION ALL SELECT max(created_at) FROM ratings
                UNION ALL SELECT max(voted_at) FROM duel_pairs
                UNION ALL SELECT max(created_at) FROM jobs
                UNION ALL SELECT max(created_at) FROM activations
                UNION ALL SELECT max(given_at) FROM consents
                UNION ALL SELECT max(withdrawn_at) FROM consents
                UNION ALL SELECT max(paused_at) FROM pauses
                UNION ALL SELECT max(added_at) FROM filters
                UNION ALL SELECT max(changed_at) FROM server_settings
                UNION ALL SELECT max(added_at) FROM golden_questions
                UNION ALL SELECT max(asked_at) FROM golden_scores
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

    async def erase_batch(self, user_id: int, limit: int) -> ErasureResult:
        """Erase up to `limit` rows of each kind that hold a member's words, in every scope. An
        empty result means that nothing is left."""
        counts = {name: await self._execute(sql, user_id, limit) for name, sql in ERASE_SQL.items()}
        del counts["reply_messages"]  # those are counted as `replies`
        counts["examples"] += counts.pop("sources") + counts.pop("inherited")
        counts["ratings"] += counts.pop("duel_votes")
        return ErasureResult(**counts)

    async def anonymize(self, user_id: int) -> None:
        """Forget who set up what a server goes on using."""
        for sql in ANONYMIZE_SQL:
            await self._execute(sql, user_id)

    async def correct_future(self, now: datetime) -> None:
        """Date what was written while the clock was ahead as written now: else it would be kept
        until that time comes."""
        latest = to_utc_iso(now + timedelta(days=1))
        for table in EXPIRING_TABLES:
            sql = f"UPDATE {table} SET created_at = ? WHERE created_at > ?"
            await self._execute(sql, to_utc_iso(now), latest)

    async def purge_batch(self, before: datetime, limit: int) -> int:
        """Erase up to `limit` older messages, reply records and records of introductions each;
        return how many. Examples stay: the data set's managers decide about them."""
        erased = 0
        for table in EXPIRING_TABLES:
            older = f"SELECT rowid FROM {table} WHERE created_at < ? LIMIT ?"
            sql = f"DELETE FROM {table} WHERE rowid IN ({older})"
            erased += await self._execute(sql, to_utc_iso(before), limit)
        return erased

    async def truncate_wal(self) -> bool:
        """Empty SQLite's write-ahead log, which still holds what was erased. False if another
        program is reading the database, which keeps the log."""
        [row] = await self._fetch_all("PRAGMA wal_checkpoint(TRUNCATE)")
        return not row[0]

"""What is known of one member, everywhere in the store: counted, handed out, erased.

Knows SQL. The only part that reads and writes the tables of the others: what has to go when a
member wants to be forgotten is in one place. `data.storage.erasure` says in which order, and how
often.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from core.records import ErasureResult, MemberDataSummary
from data.storage.connection import to_utc_iso, utc_now_iso
from data.storage.tables.consents import Consents
from i18n.phrase import deserialize_phrase


class MemberData(Consents):
    """The traces of every member."""

    async def member_summary(self, user_id: int, scope: int | None = None) -> MemberDataSummary:
        """How much is stored about a member in a scope; in all of them if it is None."""
        [row] = await self._fetch_all(
            """
            SELECT
                (SELECT count(*) FROM messages
                 WHERE author_id = ?1 AND (?2 IS NULL OR scope = ?2)) AS messages,
                (SELECT count(*) FROM replies
                 WHERE asked_by = ?1 AND (?2 IS NULL OR scope = ?2)) AS replies,
                (SELECT count(*) FROM examples
                 WHERE (asked_by = ?1 OR author_id = ?1) AND (?2 IS NULL OR scope = ?2))
                 AS examples,
                (SELECT count(*) FROM ratings
                 WHERE user_id = ?1 AND (?2 IS NULL OR scope = ?2)) AS ratings,
                (SELECT count(*) FROM job_sources JOIN jobs ON jobs.id = job_id
                 WHERE user_id = ?1 AND (?2 IS NULL OR scope = ?2)) AS jobs
            """,
            user_id,
            scope,
        )
        consent = None if scope is None else await self.active_consent(scope, user_id)
        return MemberDataSummary(**dict(row), consent=consent)

    async def export_member(self, user_id: int) -> dict[str, Any]:
        """All that is stored about a member, in every scope, ready to be written as JSON.

        Ids are text, because JSON's numbers are too short for them in many programs. Where an
        example holds words of somebody else too, those are left out (None).
        """
        parts = {name: await self._fetch_all(sql, user_id) for name, sql in EXPORT_QUERIES.items()}
        return await asyncio.to_thread(_exported, user_id, parts)

    # --- forgetting ------------------------------------------------------------------------------

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

    async def begin_erasure(self, user_id: int) -> None:
        """Remember that a member is to be forgotten, until `end_erasure`."""
        sql = "INSERT INTO forgettings VALUES (?, ?) ON CONFLICT (user_id) DO NOTHING"
        await self._execute(sql, user_id, utc_now_iso())

    async def unfinished_erasures(self) -> list[int]:
        """The members whose forgetting has begun and not ended, in the order of asking."""
        rows = await self._fetch_all("SELECT user_id FROM forgettings ORDER BY asked_at, user_id")
        return [row[0] for row in rows]

    async def end_erasure(self, user_id: int) -> None:
        """All of a member is gone."""
        await self._execute("DELETE FROM forgettings WHERE user_id = ?", user_id)

    async def withdraw_consents(self, user_id: int) -> int:
        """Withdraw what a member agreed to, in every scope; how many consents stood."""
        sql = "UPDATE consents SET withdrawn_at = ? WHERE user_id = ? AND withdrawn_at IS NULL"
        return await self._execute(sql, utc_now_iso(), user_id)

    async def erase_member_batch(self, user_id: int, limit: int) -> ErasureResult:
        """Erase up to `limit` of each kind of what holds words of a member, in every scope.

        Nothing is left once it erases nothing. The member's own messages go first, since a reply
        is recorded only while what it answers is there (`add_message`, `add_reply`). A record leads
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


EXPORT_QUERIES = {
    "messages": """
        SELECT discord_id, channel_id, scope, content, created_at FROM messages
        WHERE author_id = ?1 ORDER BY id
    """,
    "replies": """
        SELECT replies.*, messages.content FROM replies
        LEFT JOIN messages ON messages.discord_id = reply_id
        WHERE asked_by = ?1 ORDER BY replies.created_at, reply_id
    """,
    "examples": """
        SELECT id, scope, iif(coalesce(asked_by, author_id) = ?1, user, NULL) AS user,
            iif(author_id = ?1 OR NOT corrects, bot, NULL) AS bot,
            source, status, weight, conversation, turn, reply_id, consent_version, created_at
        FROM examples WHERE asked_by = ?1 OR author_id = ?1 ORDER BY id
    """,
    "ratings": """
        SELECT reply_id, scope, value, created_at FROM ratings
        WHERE user_id = ?1 ORDER BY created_at, reply_id
    """,
    "consents": """
        SELECT scope, version, given_at, withdrawn_at FROM consents
        WHERE user_id = ?1 ORDER BY id
    """,
    "jobs": """
        SELECT job_id, scope, checkpoint, consent_version, created_at
        FROM job_sources JOIN jobs ON jobs.id = job_id WHERE user_id = ?1 ORDER BY job_id
    """,
    "audit": "SELECT at, scope, action, detail FROM audit WHERE actor_id = ?1 ORDER BY id",
    "forgetting": "SELECT asked_at FROM forgettings WHERE user_id = ?1",
}
"""The parts of an export, and where each comes from."""

ID_COLUMNS = frozenset({"discord_id", "channel_id", "scope", "reply_id", "asked_id", "asked_by"})


def _exported(user_id: int, parts: Mapping[str, Sequence[sqlite3.Row]]) -> dict[str, Any]:
    told = {name: [_export_row(row) for row in rows] for name, rows in parts.items()}
    return {"user_id": str(user_id), **told}


def _export_row(row: sqlite3.Row) -> dict[str, Any]:
    fields: dict[str, Any] = dict(row)
    for name in ID_COLUMNS & fields.keys():
        fields[name] = None if fields[name] is None else str(fields[name])
    if "detail" in fields:
        fields["detail"] = deserialize_phrase(fields["detail"])
    if "seen" in fields:
        fields["seen"] = [str(one) for one in json.loads(fields["seen"])]
        fields["sampling"] = json.loads(fields["sampling"])
    return fields

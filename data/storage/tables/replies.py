"""How each of the bot's replies was generated, and how members rated it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Any

from core.records import RatingSummary, ReplyRecord
from data.storage.connection import Repository, to_utc_iso, utc_now_iso


class Replies(Repository):
    """The records of replies and their ratings."""

    async def add(self, record: ReplyRecord) -> bool:
        """Store a reply's record; that of a regenerated reply replaces the old one.

        Nothing is stored (False) if the message that it answers was deleted or erased meanwhile.
        Call this before the reply's own message is stored: an erasure finds that message only
        through this record."""
        fields = asdict(record) | {
            "seen": json.dumps(record.seen),
            "sampling": json.dumps(dict(record.sampling), sort_keys=True),
            "created_at": to_utc_iso(record.created_at),
        }
        columns, marks = ", ".join(fields), ", ".join("?" * len(fields))
        sql = f"""
            INSERT OR REPLACE INTO replies ({columns}) SELECT {marks}
            WHERE EXISTS (SELECT 1 FROM messages WHERE discord_id = ?)
        """
        return bool(await self._execute(sql, *fields.values(), record.asked_id))

    async def get(self, reply_id: int) -> ReplyRecord | None:
        """A reply's record; `Messages.get_many(record.seen)` gives its context."""
        row = await self._fetch_one("SELECT * FROM replies WHERE reply_id = ?", reply_id)
        return _record(row) if row else None

    async def answered(self, asked_ids: Collection[int]) -> set[int]:
        """Those of the messages that a reply is recorded to."""
        sql = "SELECT asked_id FROM replies WHERE asked_id IN (SELECT value FROM json_each(?))"
        return {row[0] for row in await self._fetch_all(sql, json.dumps(list(asked_ids)))}

    async def rate(self, scope: int, reply_id: int, user_id: int, value: int) -> None:
        """Rate a reply: like (+1), dislike (-1), or take the rating back (0)."""
        if not value:
            sql = "DELETE FROM ratings WHERE reply_id = ? AND user_id = ?"
            await self._execute(sql, reply_id, user_id)
            return
        sql = """
            INSERT INTO ratings (reply_id, user_id, scope, value, created_at)
            VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (reply_id, user_id) DO UPDATE
            SET value = excluded.value, created_at = excluded.created_at
        """
        await self._execute(sql, reply_id, user_id, scope, value, utc_now_iso())

    async def clear_ratings(self, reply_id: int) -> int:
        """Delete a reply's ratings, since its text has changed; return how many."""
        return await self._execute("DELETE FROM ratings WHERE reply_id = ?", reply_id)

    async def rating_summary(self, reply_id: int, user_id: int | None = None) -> RatingSummary:
        """The ratings of a reply; `mine` is that of `user_id`."""
        sql = """
            SELECT count(*) FILTER (WHERE value > 0), count(*) FILTER (WHERE value < 0),
                coalesce(sum(value) FILTER (WHERE user_id = ?2), 0)
            FROM ratings WHERE reply_id = ?1
        """
        [row] = await self._fetch_all(sql, reply_id, user_id)
        return RatingSummary(*row)


def _record(row: sqlite3.Row) -> ReplyRecord:
    fields: dict[str, Any] = dict(row)
    fields["seen"] = tuple(json.loads(row["seen"]))
    fields["sampling"] = json.loads(row["sampling"])
    fields["created_at"] = datetime.fromisoformat(row["created_at"])
    return ReplyRecord(**fields)

"""The conversation history of each channel; how each of the bot's replies was made, and rated."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from core.records import (
    ChannelActivity,
    Message,
    RatingSummary,
    ReplyRecord,
    Role,
    StoredMessage,
)
from data.storage.connection import Repository, to_utc_iso, utc_now_iso

MESSAGE_COLUMNS = "discord_id, channel_id, author_id, role, content, created_at, scope"
RECENT_MESSAGES = 5000
"""Messages among which active channels are looked for."""
DELETE_COLLECTED_SQL = """
    DELETE FROM examples
    WHERE (consent_version IS NOT NULL OR asked_by <> author_id) AND reply_id IN (
        SELECT value FROM json_each(?1)
        UNION SELECT reply_id FROM replies WHERE asked_id IN (SELECT value FROM json_each(?1))
    )
"""
"""Deletes the examples that were collected from these messages or from replies to them."""


class Messages(Repository):
    """The messages of all channels, and where each channel's context begins."""

    async def add(self, message: StoredMessage, *, reply_to_id: int | None = None) -> bool:
        """Store a message as the newest of its channel; False if it is stored already.

        A reply is stored only while the message that it answers (`reply_to_id`) is: if that was
        deleted or erased meanwhile, its words must not come back in the answer."""
        sql = f"""
            INSERT INTO messages ({MESSAGE_COLUMNS}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
            WHERE ?8 IS NULL OR EXISTS (SELECT 1 FROM messages WHERE discord_id = ?8)
            ON CONFLICT (discord_id) DO NOTHING
        """
        added = await self._execute(
            sql,
            message.discord_id,
            message.channel_id,
            message.author_id,
            message.message.role.value,
            message.message.content,
            to_utc_iso(message.created_at),
            message.scope,
            reply_to_id,
        )
        return bool(added)

    async def edit(self, discord_id: int, content: str) -> bool:
        """Change a message's text; False if it is not stored. An example that was collected from
        the old text is deleted."""
        changed_sql = f"""
            {DELETE_COLLECTED_SQL} AND EXISTS (
                SELECT 1 FROM messages WHERE discord_id IN (SELECT value FROM json_each(?1))
                  AND content <> ?2
            )
        """
        await self._execute(changed_sql, json.dumps([discord_id]), content)
        sql = "UPDATE messages SET content = ? WHERE discord_id = ? RETURNING id"
        return bool(await self._fetch_all(sql, content, discord_id))

    async def delete(self, discord_ids: Collection[int]) -> int:
        """Delete messages; return how many were stored. Examples collected from them go first; what
        was taught on purpose stays."""
        ids = json.dumps(list(discord_ids))
        await self._execute(DELETE_COLLECTED_SQL, ids)
        sql = "DELETE FROM messages WHERE discord_id IN (SELECT value FROM json_each(?))"
        return await self._execute(sql, ids)

    async def get_many(self, discord_ids: Sequence[int]) -> list[StoredMessage]:
        """The messages with these ids that are still stored, in the order of the ids."""
        sql = f"""
            SELECT {MESSAGE_COLUMNS} FROM json_each(?) JOIN messages ON discord_id = json_each.value
            ORDER BY json_each.key
        """
        ids = json.dumps(list(discord_ids))
        return [_message(row) for row in await self._fetch_all(sql, ids)]

    async def context(self, channel_id: int, limit: int) -> list[StoredMessage]:
        """The newest `limit` messages since the channel's last reset, in order of arrival.

        Fixed texts of the bot (`ReplyRecord.is_fixed`) are left out: a list of commands is longer
        than all that a small model can read."""
        sql = f"""
            SELECT {MESSAGE_COLUMNS} FROM messages
            WHERE channel_id = ?1
              AND id > coalesce((SELECT after_id FROM resets WHERE channel_id = ?1), 0)
              AND NOT EXISTS (
                SELECT 1 FROM replies WHERE reply_id = messages.discord_id
                  AND completion_tokens = 0 AND example_id IS NULL
              )
            ORDER BY id DESC LIMIT ?2
        """
        rows = await self._fetch_all(sql, channel_id, limit)
        return [_message(row) for row in reversed(rows)]

    async def active_channels(self, limit: int) -> list[ChannelActivity]:
        """The channels of the newest messages, the most recently active first."""
        rows = await self._fetch_all(
            """
            WITH newest AS (SELECT * FROM messages ORDER BY id DESC LIMIT ?1),
            answered AS (
                SELECT newest.channel_id, max(newest.id) AS newest_id,
                       coalesce(max(asked_id), 0) AS answered_id
                FROM newest LEFT JOIN replies ON asked_id = discord_id
                GROUP BY newest.channel_id ORDER BY newest_id DESC LIMIT ?2
            )
            SELECT channel_id, (
                SELECT min(discord_id) FROM newest
                WHERE newest.channel_id = answered.channel_id AND role = ?3
                  AND discord_id > answered_id
            ) AS unanswered_id
            FROM answered ORDER BY newest_id DESC
            """,
            RECENT_MESSAGES,
            limit,
            Role.USER.value,
        )
        return [ChannelActivity(**dict(row)) for row in rows]

    async def reset_context(self, channel_id: int) -> None:
        """Let the channel's context begin after its newest message; the messages stay."""
        sql = """
            INSERT INTO resets (channel_id, after_id)
            SELECT ?1, coalesce(max(id), 0) FROM messages WHERE channel_id = ?1
            ON CONFLICT (channel_id) DO UPDATE SET after_id = excluded.after_id
        """
        await self._execute(sql, channel_id)


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
        """Delete a reply's ratings and faults, since its text has changed; return how many ratings
        there were."""
        await self._execute("DELETE FROM reply_faults WHERE reply_id = ?", reply_id)
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

    async def ratings_of_model(self, scope: int, model: str) -> RatingSummary:
        """The ratings of a model's replies in a scope, as far as these are still stored."""
        sql = """
            SELECT count(*) FILTER (WHERE value > 0), count(*) FILTER (WHERE value < 0), 0
            FROM replies JOIN ratings USING (reply_id) WHERE replies.scope = ? AND model = ?
        """
        [row] = await self._fetch_all(sql, scope, model)
        return RatingSummary(*row)


def _message(row: sqlite3.Row) -> StoredMessage:
    fields: dict[str, Any] = dict(row)
    message = Message(Role(fields.pop("role")), fields.pop("content"))
    created_at = datetime.fromisoformat(fields.pop("created_at"))
    return StoredMessage(**fields, message=message, created_at=created_at)


def _record(row: sqlite3.Row) -> ReplyRecord:
    fields: dict[str, Any] = dict(row)
    fields["seen"] = tuple(json.loads(row["seen"]))
    fields["sampling"] = json.loads(row["sampling"])
    fields["created_at"] = datetime.fromisoformat(row["created_at"])
    return ReplyRecord(**fields)

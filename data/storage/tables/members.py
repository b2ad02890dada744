"""Everything that is stored about one member: counted and exported.

Reads the other tables, so that all personal data is listed in one place.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from core.records import MemberDataSummary
from data.storage.connection import Repository
from data.storage.tables.consents import Consents
from i18n.phrase import deserialize_phrase


class MemberData(Repository):
    """The data of single members."""

    async def summary(self, user_id: int, scope: int | None = None) -> MemberDataSummary:
        """How much is stored about a member in a scope (None: in all)."""
        sql = """
            SELECT
                (SELECT count(*) FROM messages
                 WHERE author_id = ?1 AND (?2 IS NULL OR scope = ?2)) AS messages,
                (SELECT count(*) FROM replies
                 WHERE asked_by = ?1 AND (?2 IS NULL OR scope = ?2)) AS replies,
                (SELECT count(*) FROM examples
                 WHERE (asked_by = ?1 OR author_id = ?1 OR id IN (
                     SELECT example_id FROM example_sources WHERE author_id = ?1
                 )) AND (?2 IS NULL OR scope = ?2)) AS examples,
                (SELECT count(*) FROM ratings
                 WHERE user_id = ?1 AND (?2 IS NULL OR scope = ?2))
                + (SELECT count(*) FROM duel_pairs JOIN duels ON duels.id = duel_id
                 WHERE voter_id = ?1 AND (?2 IS NULL OR scope = ?2)) AS ratings,
                (SELECT count(*) FROM job_sources JOIN jobs ON jobs.id = job_id
                 WHERE user_id = ?1 AND (?2 IS NULL OR scope = ?2)) AS jobs
        """
        [row] = await self._fetch_all(sql, user_id, scope)
        consent = None if scope is None else await Consents(self._db).active(scope, user_id)
        return MemberDataSummary(**dict(row), consent=consent)

    async def export(self, user_id: int) -> dict[str, Any]:
        """All data about a member, in every scope, ready for JSON.

        Ids are strings: many programs read JSON's numbers as doubles, which are too short for them.
        Somebody else's words in an example are left out (None)."""
        parts = {name: await self._fetch_all(sql, user_id) for name, sql in EXPORT_QUERIES.items()}
        return await asyncio.to_thread(_export_rows, user_id, parts)


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
        FROM examples WHERE asked_by = ?1 OR author_id = ?1
        UNION ALL
        SELECT id, scope, user, bot, one.source, status, weight, conversation, turn, NULL, NULL,
            one.created_at
        FROM example_sources AS one JOIN examples ON id = example_id
        WHERE one.author_id = ?1 AND examples.author_id <> ?1 AND examples.asked_by IS NOT ?1
        ORDER BY id
    """,
    "ratings": """
        SELECT reply_id, scope, value, created_at FROM ratings
        WHERE user_id = ?1 ORDER BY created_at, reply_id
    """,
    "duel_votes": """
        SELECT reply_id, scope,
            CASE choice WHEN 'a' THEN model_a WHEN 'b' THEN model_b ELSE choice END AS choice,
            voted_at
        FROM duel_pairs JOIN duels ON duels.id = duel_id
        WHERE voter_id = ?1 ORDER BY voted_at, reply_id
    """,
    "duel_answers": """
        SELECT reply_id, scope, json_extract(other, '$.text') AS content
        FROM duel_pairs JOIN replies USING (reply_id)
        WHERE asked_by = ?1 AND other IS NOT NULL ORDER BY reply_id
    """,
    "consents": """
        SELECT scope, version, given_at, withdrawn_at FROM consents
        WHERE user_id = ?1 ORDER BY id
    """,
    "jobs": """
        SELECT job_id, scope, checkpoint, consent_version, created_at
        FROM job_sources JOIN jobs ON jobs.id = job_id WHERE user_id = ?1 ORDER BY job_id
    """,
    "golden_questions": """
        WITH mine AS (
            SELECT scope, question AS key, bot AS expected,
                coalesce(asked_by, author_id) = ?1 AS has_asked,
                author_id = ?1 OR NOT corrects AS has_answered
            FROM examples WHERE asked_by = ?1 OR author_id = ?1
            UNION ALL
            SELECT scope, question, bot, 1, 1
            FROM example_sources AS one JOIN examples ON id = example_id WHERE one.author_id = ?1
        )
        SELECT golden.scope,
            iif(added_by = ?1 OR max(has_asked), question, NULL) AS question, kind,
            iif(added_by = ?1 OR max(has_answered), golden.expected, NULL) AS expected,
            needed, added_at
        FROM golden_questions AS golden LEFT JOIN mine
            ON taught AND mine.scope = golden.scope AND mine.key = golden.key
            AND mine.expected = golden.expected
        WHERE added_by = ?1 OR mine.key IS NOT NULL GROUP BY id ORDER BY id
    """,
    "audit": "SELECT at, scope, action, detail FROM audit WHERE actor_id = ?1 ORDER BY id",
    "forgetting": "SELECT asked_at FROM forgettings WHERE user_id = ?1",
}
"""The parts of an export."""

ID_COLUMNS = frozenset({"discord_id", "channel_id", "scope", "reply_id", "asked_id", "asked_by"})


def _export_rows(user_id: int, parts: Mapping[str, Sequence[sqlite3.Row]]) -> dict[str, Any]:
    exported = {name: [_export_row(row) for row in rows] for name, rows in parts.items()}
    return {"user_id": str(user_id), **exported}


def _export_row(row: sqlite3.Row) -> dict[str, Any]:
    fields: dict[str, Any] = dict(row)
    for name in ID_COLUMNS & fields.keys():
        fields[name] = None if fields[name] is None else str(fields[name])
    if "detail" in fields:
        fields["detail"] = deserialize_phrase(fields["detail"])
    if "sampling" in fields:
        del fields["source"]  # may be a folder of the machine
        fields["sampling"] = json.loads(fields["sampling"])
        fields["sampling"].pop("banned_words", None)  # the operator's own
        fields["seen"] = [str(one) for one in json.loads(fields["seen"])]
    return fields

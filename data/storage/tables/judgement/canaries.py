"""Canaries: new checkpoints that serve some channels first; and what went wrong with replies, by
which they are judged."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

from core.records import Canary, CanaryOutcome, ReplyCounts, ReplyFault
from data.storage.connection import Repository, to_utc_iso, utc_now_iso

CANARY_COLUMNS = (
    "id, scope, model, old_model, share, base_bad, base_replies, report_channel_id, started_at, "
    "ended_at, outcome"
)
COUNT_SQL = """
    WITH made AS (
        SELECT reply_id, created_at FROM replies
        WHERE scope = ?1 AND model = ?2 AND created_at BETWEEN ?3 AND coalesce(?6, '9999')
            AND completion_tokens > 0 AND example_id IS NULL
        UNION ALL
        SELECT -id, created_at FROM reply_faults
        WHERE scope = ?1 AND model = ?2 AND reply_id IS NULL
            AND created_at BETWEEN ?3 AND coalesce(?6, '9999')
        ORDER BY created_at DESC LIMIT ?4
    ),
    disliked AS (
        SELECT reply_id, user_id, row_number() OVER (
            PARTITION BY user_id ORDER BY ratings.created_at
        ) AS nth
        FROM ratings JOIN made USING (reply_id) WHERE value < 0
    ),
    blamed AS (
        SELECT reply_id, user_id AS who FROM disliked WHERE nth <= ?5
        UNION
        SELECT reply_id, CASE fault WHEN 'stopped' THEN asked_by END
        FROM reply_faults JOIN made USING (reply_id) LEFT JOIN replies USING (reply_id)
        UNION
        SELECT reply_id, NULL FROM made WHERE reply_id < 0
    ),
    bad AS (
        SELECT iif(count(*) = 1, max(who), NULL) AS only_by FROM blamed GROUP BY reply_id
    )
    SELECT
        (SELECT count(*) FROM made) AS replies,
        (SELECT count(*) FROM bad) AS bad,
        (
            SELECT coalesce(max(times), 0) FROM (
                SELECT count(*) AS times FROM bad WHERE only_by IS NOT NULL GROUP BY only_by
            )
        ) AS one_member
"""
"""Counts up to ?4 of the newest replies of model ?2 from ?3 to ?6, those of them that went wrong or
are disliked, and those that only one member found bad, of the member with most of these: who
stopped a reply is taken to be who asked. Of one member, ?5 dislikes count. A fault without a reply
stands for one, whose id is negative."""
BEGINNING = "(SELECT value FROM marks WHERE name = 'faults_since')"
"""Since when faults are noted: what was said before looks better than it was."""


class Canaries(Repository):
    """The canaries of all scopes, one at a time, and the faults of replies."""

    async def start(self, canary: Canary) -> Canary:
        """Start a canary, whose id and time are set here. One that runs there is replaced."""
        await self._end_where("scope = ?", canary.scope, CanaryOutcome.REPLACED)
        sql = f"""
            INSERT INTO canaries (scope, model, old_model, share, base_bad, base_replies,
                report_channel_id, started_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING {CANARY_COLUMNS}
        """
        row = await self._fetch_one(
            sql,
            canary.scope,
            canary.model,
            canary.old_model,
            canary.share,
            canary.base_bad,
            canary.base_replies,
            canary.report_channel_id,
            utc_now_iso(),
        )
        assert row is not None
        return _canary(row)

    async def running(self) -> list[Canary]:
        """Those that have not ended, in every scope."""
        sql = f"SELECT {CANARY_COLUMNS} FROM canaries WHERE outcome IS NULL ORDER BY id"
        return [_canary(row) for row in await self._fetch_all(sql)]

    async def end(self, canary_id: int, outcome: CanaryOutcome) -> bool:
        """End a canary; False if it has ended already: then nothing changes."""
        return await self._end_where("id = ?", canary_id, outcome)

    async def _end_where(self, condition: str, value: int, outcome: CanaryOutcome) -> bool:
        sql = f"""
            UPDATE canaries SET outcome = ?, ended_at = ?, announced = ?
            WHERE outcome IS NULL AND {condition}
        """
        # Of one that was replaced nobody is told: somebody has just done that.
        told = int(outcome is CanaryOutcome.REPLACED)
        return bool(await self._execute(sql, outcome.value, utc_now_iso(), told, value))

    async def unannounced(self) -> list[Canary]:
        """Those that ended, and nobody was told."""
        sql = f"""
            SELECT {CANARY_COLUMNS} FROM canaries
            WHERE outcome IS NOT NULL AND NOT announced ORDER BY id
        """
        return [_canary(row) for row in await self._fetch_all(sql)]

    async def mark_announced(self, canary_id: int) -> None:
        await self._execute("UPDATE canaries SET announced = 1 WHERE id = ?", canary_id)

    # --- how replies went ------------------------------------------------------------------------

    async def note_fault(
        self, scope: int, model: str, fault: ReplyFault, reply_id: int | None
    ) -> None:
        """Note that a reply of a model went wrong; `reply_id`: it is recorded all the same."""
        sql = """
            INSERT INTO reply_faults (scope, model, fault, reply_id, created_at)
            VALUES (?, ?, ?, ?, ?)
        """
        await self._execute(sql, scope, model, fault.value, reply_id, utc_now_iso())

    async def since(self, canary: Canary, most_dislikes: int) -> ReplyCounts:
        """The replies of a canary; of one member, so many dislikes count."""
        ended = to_utc_iso(canary.ended_at) if canary.ended_at else None
        return _counts(
            await self._fetch_all(
                COUNT_SQL,
                canary.scope,
                canary.model,
                to_utc_iso(canary.started_at),
                -1,
                most_dislikes,
                ended,
            )
        )

    async def before(self, scope: int, model: str, most: int) -> ReplyCounts:
        """The newest replies of a model, up to `most`; every dislike counts."""
        sql = COUNT_SQL.replace("?3", BEGINNING).replace("?6", "NULL")
        sql = sql.replace("?4", "?3").replace("?5", "?3")
        return _counts(await self._fetch_all(sql, scope, model, most))


def _counts(rows: list[sqlite3.Row]) -> ReplyCounts:
    [row] = rows
    return ReplyCounts(row["bad"], row["replies"], row["one_member"])


def _canary(row: sqlite3.Row) -> Canary:
    fields: dict[str, Any] = dict(row)
    for name in ("started_at", "ended_at"):
        fields[name] = fields[name] and datetime.fromisoformat(fields[name])
    fields["outcome"] = fields["outcome"] and CanaryOutcome(fields["outcome"])
    return Canary(**fields)

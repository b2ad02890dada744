"""Duels, and the pairs of answers that members vote on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Set
from datetime import datetime
from typing import Any

from core.records import Choice, Duel, DuelOutcome, DuelPair
from data.storage.connection import Repository, to_utc_iso, utc_now_iso

DUEL_COLUMNS = (
    "id, scope, model_a, model_b, share, channels, report_channel_id, started_at, ended_at, outcome"
)
PAIR_COLUMNS = "reply_id, duel_id, a_first, other, choice"


class Duels(Repository):
    """The duels of all scopes. Of a scope one runs at a time."""

    async def start(
        self,
        scope: int,
        models: tuple[str, str],
        share: int,
        channels: Set[int],
        report_channel_id: int,
    ) -> Duel | None:
        """Start a duel; None if one is running there."""
        sql = f"""
            INSERT INTO duels
                (scope, model_a, model_b, share, channels, report_channel_id, started_at)
            VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING {DUEL_COLUMNS}
        """
        places = json.dumps(sorted(channels))
        values = (scope, *models, share, places, report_channel_id, utc_now_iso())
        row = await self._fetch_one(sql, *values)
        return _duel(row) if row else None

    async def get(self, duel_id: int) -> Duel | None:
        row = await self._fetch_one(f"SELECT {DUEL_COLUMNS} FROM duels WHERE id = ?", duel_id)
        return _duel(row) if row else None

    async def running(self) -> list[Duel]:
        """Those that have not ended, in every scope."""
        sql = f"SELECT {DUEL_COLUMNS} FROM duels WHERE ended_at IS NULL ORDER BY id"
        return [_duel(row) for row in await self._fetch_all(sql)]

    async def newest(self, scope: int, limit: int) -> list[Duel]:
        """The duels that were started last, the newest first."""
        sql = f"SELECT {DUEL_COLUMNS} FROM duels WHERE scope = ? ORDER BY id DESC LIMIT ?"
        return [_duel(row) for row in await self._fetch_all(sql, scope, limit)]

    async def ended_of(self, scope: int, model: str, most: int) -> list[Duel]:
        """The duels of a model that said which is better, or that there is no difference; the
        newest first."""
        sql = f"""
            SELECT {DUEL_COLUMNS} FROM duels WHERE scope = ?1 AND ?2 IN (model_a, model_b)
                AND outcome IN ('a', 'b', 'alike')
            ORDER BY id DESC LIMIT ?3
        """
        return [_duel(row) for row in await self._fetch_all(sql, scope, model, most)]

    async def end(self, duel_id: int, outcome: DuelOutcome, *, announced: bool = False) -> bool:
        """End a duel; False if it has ended already: then nothing changes."""
        sql = """
            UPDATE duels SET ended_at = ?, outcome = ?, announced = ?
            WHERE id = ? AND ended_at IS NULL
        """
        values = (utc_now_iso(), outcome.value, int(announced), duel_id)
        return bool(await self._execute(sql, *values))

    async def unannounced(self) -> list[Duel]:
        """Those that ended, and nobody was told."""
        sql = f"""
            SELECT {DUEL_COLUMNS} FROM duels WHERE ended_at IS NOT NULL AND NOT announced
            ORDER BY id
        """
        return [_duel(row) for row in await self._fetch_all(sql)]

    async def mark_announced(self, duel_id: int) -> None:
        await self._execute("UPDATE duels SET announced = 1 WHERE id = ?", duel_id)

    # --- pairs and votes -------------------------------------------------------------------------

    async def add_pair(self, pair: DuelPair) -> bool:
        """Store a pair; False if the reply that it is was deleted or erased meanwhile."""
        sql = """
            INSERT INTO duel_pairs (reply_id, duel_id, a_first, other) SELECT ?1, ?2, ?3, ?4
            WHERE EXISTS (SELECT 1 FROM messages WHERE discord_id = ?1)
        """
        values = (pair.reply_id, pair.duel_id, int(pair.a_first), pair.other)
        return bool(await self._execute(sql, *values))

    async def pair(self, reply_id: int) -> DuelPair | None:
        sql = f"SELECT {PAIR_COLUMNS} FROM duel_pairs WHERE reply_id = ?"
        row = await self._fetch_one(sql, reply_id)
        return _pair(row) if row else None

    async def vote(self, reply_id: int, member_id: int, choice: Choice) -> bool:
        """Vote on a pair; False if somebody has: the first vote counts, and it is the only one."""
        sql = """
            UPDATE duel_pairs SET voter_id = ?, choice = ?, voted_at = ?
            WHERE reply_id = ? AND choice IS NULL
        """
        values = (member_id, choice.value, utc_now_iso(), reply_id)
        return bool(await self._execute(sql, *values))

    async def settle(self, reply_id: int) -> None:
        """Forget the other answer of a pair that was voted on."""
        await self._execute("UPDATE duel_pairs SET other = NULL WHERE reply_id = ?", reply_id)

    async def votes(self, duel: Duel) -> list[tuple[int, Choice]]:
        """The member and the choice of each vote, in the order in which they were given while the
        duel ran."""
        sql = """
            SELECT voter_id, choice FROM duel_pairs
            WHERE duel_id = ?1 AND voted_at <= coalesce(?2, '9999') ORDER BY voted_at, reply_id
        """
        ended = to_utc_iso(duel.ended_at) if duel.ended_at else None
        rows = await self._fetch_all(sql, duel.id, ended)
        return [(row[0], Choice(row[1])) for row in rows]


def _duel(row: sqlite3.Row) -> Duel:
    fields: dict[str, Any] = dict(row)
    fields["channels"] = frozenset(json.loads(fields["channels"]))
    for name in ("started_at", "ended_at"):
        fields[name] = fields[name] and datetime.fromisoformat(fields[name])
    fields["outcome"] = fields["outcome"] and DuelOutcome(fields["outcome"])
    return Duel(**fields)


def _pair(row: sqlite3.Row) -> DuelPair:
    fields: dict[str, Any] = dict(row)
    choice = fields["choice"]
    return DuelPair(
        **fields | {"a_first": bool(fields["a_first"]), "choice": choice and Choice(choice)}
    )

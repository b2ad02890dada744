"""The data set: what people taught, what was collected with consent, and what of it may be learned.

Knows SQL. Does not know how texts are cleaned or learned.

Whose consent an example needs (`_required_consent_sql`): words that were collected need that of the
member who said them; words of one member in a pair that another one teaches need that of the first.
What a member types to teach it is handed over on purpose and needs none. The consent must stand
when an example is stored, and again whenever it is learned.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import aiosqlite

from core.errors import NoConsent, StoreError
from core.records import Example, Pair, ReviewStatus
from data.storage.connection import Repository, utc_now_iso
from i18n.phrase import phrase

MAX_WEIGHT = 3
"""How often an example is learned at most because people like it."""
DELETE_BATCH_ROWS = 1000
"""Rows that one statement erases, so that whoever else needs the database waits for moments."""
JSON_BATCH_PAIRS = 500
"""Pairs that are made JSON without a pause: nothing else runs in Python meanwhile."""


def _required_consent_sql(row: str) -> str:
    """SQL: the member without whose consent an example is not learned; NULL if it needs none."""
    return f"""
        CASE WHEN {row}.consent_version IS NOT NULL THEN coalesce({row}.asked_by, {row}.author_id)
             WHEN {row}.asked_by <> {row}.author_id THEN {row}.asked_by END
    """


def _active_consent_sql(scope: str, user_id: str) -> str:
    """SQL: the version of a member's standing consent, or NULL."""
    return f"""(
        SELECT version FROM consents
        WHERE consents.user_id = {user_id} AND consents.scope = {scope} AND withdrawn_at IS NULL
        ORDER BY consents.id DESC LIMIT 1
    )"""


_BECOMES_TAUGHT_SQL = (
    f"(({_required_consent_sql('examples')}) IS NOT NULL"
    f" AND ({_required_consent_sql('excluded')}) IS NULL)"
)
"""SQL: a pair that was collected is now handed over on purpose."""


class Examples(Repository):
    """The data set of every scope."""

    def __init__(self, db: aiosqlite.Connection, *, include_collected: bool = True) -> None:
        super().__init__(db)
        # Whether what was collected in conversations may be learned: the operator decides.
        self._include_collected = include_collected

    async def add(
        self,
        scope: int,
        user: str,
        bot: str,
        author_id: int,
        source: str,
        *,
        asked_by: int | None = None,
        reply_id: int | None = None,
        consent_version: int | None = None,
        corrects: bool = False,
        status: ReviewStatus = ReviewStatus.APPROVED,
        weight: int = 1,
    ) -> Example:
        """Add a pair; if the scope has the very same one, that one is returned.

        It stays as it is, but for this: the higher weight and an approval win, and a pair that was
        collected and is now handed over on purpose belongs to whoever does that.

        Raises:
            NoConsent: `user` are words of a member who did not agree; nothing is stored.
        """
        rows = await self._fetch_all(
            f"""
            INSERT INTO examples (scope, user, bot, author_id, source, created_at, asked_by,
                reply_id, consent_version, corrects, status, weight)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
            FROM (
                SELECT {_required_consent_sql("new")} AS member
                FROM (SELECT ?4 AS author_id, ?7 AS asked_by, ?9 AS consent_version) AS new
            ) WHERE member IS NULL OR {_active_consent_sql("?1", "member")} IS NOT NULL
            ON CONFLICT (scope, conversation, turn, user, bot) DO UPDATE SET
                weight = max(weight, excluded.weight),
                status = iif(excluded.status = 'approved', 'approved', status),
                author_id = iif({_BECOMES_TAUGHT_SQL}, excluded.author_id, author_id),
                source = iif({_BECOMES_TAUGHT_SQL}, excluded.source, source),
                asked_by = iif({_BECOMES_TAUGHT_SQL}, excluded.asked_by, asked_by),
                reply_id = iif({_BECOMES_TAUGHT_SQL}, excluded.reply_id, reply_id),
                corrects = iif({_BECOMES_TAUGHT_SQL}, excluded.corrects, corrects),
                consent_version = iif({_BECOMES_TAUGHT_SQL}, NULL, consent_version)
            RETURNING *
            """,
            scope,
            user,
            bot,
            author_id,
            source,
            utc_now_iso(),
            asked_by,
            reply_id,
            consent_version,
            corrects,
            status.value,
            weight,
        )
        if not rows:
            raise NoConsent
        return _example(rows[0])

    async def add_pairs(
        self, scope: int, pairs: Sequence[Pair], author_id: int, default_source: str
    ) -> int:
        """Add pairs of a file, all or none of them; how many were new.

        JSON in SQLite can hold no NUL and no half of a surrogate pair: they become marks.
        """
        return await self._execute(
            """
            INSERT INTO examples
                (scope, user, bot, conversation, turn, author_id, source, created_at)
            SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'),
                json_extract(value, '$[2]'), json_extract(value, '$[3]'), ?2,
                coalesce(nullif(json_extract(value, '$[4]'), ''), ?3), ?4
            FROM json_each(?5) WHERE true ORDER BY key
            ON CONFLICT (scope, conversation, turn, user, bot) DO NOTHING
            """,
            scope,
            author_id,
            default_source,
            utc_now_iso(),
            await asyncio.to_thread(_as_json, pairs),
        )

    async def count_existing_pairs(self, scope: int, pairs: Sequence[Pair]) -> int:
        """How many of the pairs `add_pairs` would not add, since the scope has them already."""
        [row] = await self._fetch_all(
            """
            SELECT count(*) FROM json_each(?2) WHERE EXISTS (
                SELECT 1 FROM examples
                WHERE scope = ?1 AND conversation = json_extract(value, '$[2]')
                    AND turn = json_extract(value, '$[3]')
                    AND user = json_extract(value, '$[0]') AND bot = json_extract(value, '$[1]')
            )
            """,
            scope,
            await asyncio.to_thread(_as_json, pairs),
        )
        return int(row[0])

    async def all(self, scope: int, status: ReviewStatus | None = None) -> list[Example]:
        """The scope's data set, or what of it has that status, by id.

        It is for those who look after the data set; what leaves it is `trainable_examples`.
        """
        return await self._examples(
            """
            SELECT * FROM examples WHERE scope = ?1 AND (?2 IS NULL OR status = ?2) ORDER BY id
            """,
            scope,
            status,
        )

    async def trainable(self, scope: int) -> list[Example]:
        """What may be learned now, by id.

        That is approved, not voted down, and has the consent that it needs; `consent_version` is
        that of the consent which stands now. More likes than dislikes of the reply that it comes
        from add to its weight, up to MOST_WEIGHT.
        """
        return await self._examples(
            f"""
            WITH judged AS (
                SELECT *, {_required_consent_sql("examples")} AS member, coalesce(
                    (SELECT sum(value) FROM ratings
                     WHERE ratings.reply_id = examples.reply_id AND NOT corrects), 0
                ) AS votes
                FROM examples WHERE scope = ?1 AND status = 'approved'
            )
            SELECT id, scope, user, bot, author_id, source, created_at, status,
                max(weight, min(weight + votes, {MAX_WEIGHT})) AS weight,
                conversation, turn, asked_by, reply_id, standing AS consent_version, corrects
            FROM (
                SELECT *, {_active_consent_sql("judged.scope", "judged.member")} AS standing
                FROM judged
            )
            WHERE votes >= 0 AND (member IS NULL OR standing IS NOT NULL)
                AND (?2 OR consent_version IS NULL) ORDER BY id
            """,
            scope,
            self._include_collected,
        )

    async def page(
        self, scope: int, status: ReviewStatus | None, after_id: int, limit: int
    ) -> list[Example]:
        """The next examples of the scope, by id; those of every status if it is None."""
        of_status = "" if status is None else "AND status = ?4"
        values = () if status is None else (status.value,)
        return await self._examples(
            f"""
            SELECT * FROM examples WHERE scope = ?1 AND id > ?2 {of_status}
            ORDER BY id LIMIT ?3
            """,
            scope,
            after_id,
            limit,
            *values,
        )

    async def get(self, scope: int, example_id: int) -> Example | None:
        """The scope's example of that id."""
        sql = "SELECT * FROM examples WHERE scope = ? AND id = ?"
        rows = await self._fetch_all(sql, scope, example_id)
        return _example(rows[0]) if rows else None

    async def count(self, scope: int) -> int:
        """How many examples the scope's data set has."""
        [row] = await self._fetch_all("SELECT count(*) FROM examples WHERE scope = ?", scope)
        return int(row[0])

    async def count_by_status_and_source(self, scope: int) -> dict[tuple[ReviewStatus, str], int]:
        """How many examples of each status and source the scope's data set has."""
        sql = """
            SELECT status, source, count(*) FROM examples WHERE scope = ?
            GROUP BY status, source ORDER BY status, source
        """
        return {(ReviewStatus(row[0]), row[1]): row[2] for row in await self._fetch_all(sql, scope)}

    async def set_review(self, scope: int, example_id: int, review: ReviewStatus) -> bool:
        """Approve or reject an example, or let it wait again; False if there is none."""
        sql = "UPDATE examples SET status = ? WHERE scope = ? AND id = ?"
        return bool(await self._execute(sql, review.value, scope, example_id))

    async def edit(self, scope: int, example_id: int, user: str, bot: str) -> Example | None:
        """Change the texts of an example; None if there is none.

        Another answer than the one that was rated is a better answer, as `corrects` says.

        Raises:
            StoreError: the scope has that pair already.
        """
        rows = await self._fetch_all(
            """
            UPDATE OR IGNORE examples
            SET corrects = corrects OR (reply_id IS NOT NULL AND bot <> ?4), user = ?3, bot = ?4
            WHERE scope = ?1 AND id = ?2 RETURNING *
            """,
            scope,
            example_id,
            user,
            bot,
        )
        if not rows and await self.get(scope, example_id):
            raise StoreError(phrase("The data set has this very pair already."))
        return _example(rows[0]) if rows else None

    async def remove(self, scope: int, example_id: int) -> bool:
        """Take an example out of the scope's data set; False if it has none with that id."""
        sql = "DELETE FROM examples WHERE scope = ? AND id = ?"
        return bool(await self._execute(sql, scope, example_id))

    async def remove_source(self, scope: int, source: str) -> int:
        """Take all examples of a source out of the scope's data set; how many there were."""
        sql = """
            DELETE FROM examples WHERE id IN
                (SELECT id FROM examples WHERE scope = ? AND source = ? LIMIT ?)
        """
        removed = 0
        while count := await self._execute(sql, scope, source, DELETE_BATCH_ROWS):
            removed += count
        return removed

    async def remove_pending_collected(self, user_id: int, scope: int | None = None) -> int:
        """Take away what was collected with a member's consent and waits for review; how many.

        In all scopes if it is None.
        """
        sql = f"""
            DELETE FROM examples
            WHERE status = 'waiting' AND ({_required_consent_sql("examples")}) = ?1
              AND (?2 IS NULL OR scope = ?2)
        """
        return await self._execute(sql, user_id, scope)

    async def _examples(self, sql: str, *values: object) -> list[Example]:
        return await asyncio.to_thread(_to_examples, await self._fetch_all(sql, *values))


def _as_json(pairs: Sequence[Pair]) -> str:
    """A JSON array of `[user, bot, conversation, turn, source]`, made in small pieces."""
    return f"[{','.join(_pieces(pairs))}]"


def _pieces(pairs: Sequence[Pair]) -> Iterator[str]:
    rows = (
        [_text(one.user), _text(one.bot), _text(one.conversation), one.turn, _text(one.source)]
        for one in pairs
    )
    while piece := list(islice(rows, JSON_BATCH_PAIRS)):
        yield json.dumps(piece)[1:-1]  # ASCII, which sqlite3 takes without encoding it at once


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _to_examples(rows: list[sqlite3.Row]) -> list[Example]:
    """Empties `rows`: to free very many at once would stop the event loop."""
    rows.reverse()
    return [_example(rows.pop()) for _ in range(len(rows))]


def _example(row: sqlite3.Row) -> Example:
    fields: dict[str, Any] = dict(row)
    fields["created_at"] = datetime.fromisoformat(row["created_at"])
    fields["status"] = ReviewStatus(row["status"])
    fields["corrects"] = bool(row["corrects"])
    return Example(**fields)

"""The data set: pairs that people taught, or that were collected with consent.

Knows SQL and the rule of consent. Does not know how texts are cleaned or learned.

Whose consent an example needs (`_required_consent_sql`): a pair collected from a conversation needs
that of the member who said it; a pair that one member teaches with another's words needs that of
the other. What a member types to teach the bot is handed over on purpose and needs none. The
consent must stand both when an example is stored and whenever it is learned.

The rule is SQL text, not a view: `add` applies it to a row before it is stored, and to the two
versions of a row that collide.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import astuple
from datetime import datetime
from itertools import count, islice
from typing import Any, Literal

import aiosqlite

from core.errors import NoConsent, StoreError
from core.records import Example, JudgedReply, NewExample, Pair, ReviewStatus
from data.storage.connection import Repository, utc_now_iso
from i18n.phrase import phrase

MAX_WEIGHT = 3
"""The most that likes can raise an example's weight to."""
DELETE_BATCH_ROWS = 1000
"""Rows deleted by one statement: other users of the database never wait long."""
PAGE_EXAMPLES = 500
"""Examples that are in memory at a time where a data set is paged through."""
JSON_BATCH_PAIRS = 500
"""Pairs encoded in one call: `json` holds the GIL, which stops the event loop, until it is done."""


def _required_consent_sql(row: str) -> str:
    """SQL: the id of the member without whose consent a row may not be learned, or NULL."""
    return f"""
        CASE WHEN {row}.consent_version IS NOT NULL THEN coalesce({row}.asked_by, {row}.author_id)
             WHEN {row}.asked_by <> {row}.author_id THEN {row}.asked_by END
    """


def _active_consent_sql(scope: str, user_id: str) -> str:
    """SQL: the version of the consent that a member gave and did not withdraw, or NULL."""
    return f"""(
        SELECT version FROM consents
        WHERE consents.user_id = {user_id} AND consents.scope = {scope} AND withdrawn_at IS NULL
        ORDER BY consents.id DESC LIMIT 1
    )"""


# What was collected from a member becomes a taught pair once that member teaches it: then it needs
# no consent any more. Nobody else's teaching changes whose words they are.
_TAUGHT_BY_ITS_SPEAKER_SQL = f"""
    examples.consent_version IS NOT NULL AND examples.author_id = excluded.author_id
    AND coalesce(examples.asked_by, examples.author_id) = excluded.author_id
    AND ({_required_consent_sql("excluded")}) IS NULL
"""
_BECOMES_TAUGHT_SQL = ", ".join(
    f"{column} = iif({_TAUGHT_BY_ITS_SPEAKER_SQL}, excluded.{column}, {column})"
    for column in ("source", "asked_by", "reply_id", "corrects", "consent_version")
)
_SAME_QUESTION_SQL = """
    question = question_key(?2) AND plain_question(user) = plain_question(?2)
    AND conversation = ''
"""
"""That an example answers the question ?2; the index of questions serves it."""
# A review is about the words, whoever teaches them again, however they are written. (SQLite
# would prefer an index in which it looks through all of the scope.)
_STATUS_SQL = f"""
    CASE WHEN ?12 THEN ?10
         ELSE coalesce(
            (SELECT min(status)  -- 'rejected' comes before 'waiting'
             FROM examples AS known INDEXED BY examples_by_question
             WHERE scope = ?1 AND question = question_key(?2) AND conversation = ''
               AND status <> 'approved' AND question_key(bot) = question_key(?3)),
            (SELECT 'waiting' FROM examples AS known INDEXED BY examples_by_question
             WHERE NOT ?13 AND scope = ?1 AND {_SAME_QUESTION_SQL}
               AND status = 'approved' AND author_id <> ?4 AND bot <> ?3 LIMIT 1),
            ?10
         ) END
"""


def inherit_sql(condition: str) -> str:
    """SQL: make whoever else submitted an example first its author, for up to ?2 examples that meet
    the condition. Those that were collected keep theirs."""
    return f"""
        UPDATE examples
        SET (author_id, source, asked_by, reply_id, corrects) = (
            SELECT one.author_id, one.source,
                coalesce(one.asked_by, nullif(examples.asked_by, examples.author_id)), NULL, 0
            FROM example_sources AS one WHERE example_id = examples.id
            ORDER BY created_at, one.author_id LIMIT 1
        )
        WHERE id IN (
            SELECT id FROM examples WHERE {condition} AND consent_version IS NULL
                AND EXISTS (SELECT 1 FROM example_sources WHERE example_id = id) LIMIT ?2
        )
    """


class Examples(Repository):
    """The data set of every scope."""

    def __init__(self, db: aiosqlite.Connection, *, include_collected: bool = True) -> None:
        super().__init__(db)
        # Whether what was collected in conversations may be learned: the operator decides.
        self._include_collected = include_collected
        self._staging = count()

    async def add(self, new: NewExample) -> Example:
        """Store an example; if the scope has the same pair already, return that one.

        The stored one keeps its author, its consent and its review (a manager's approval counts as
        one), and the higher weight. The new author becomes a second source of it.

        Unless a manager teaches it, a pair that was rejected or waits for a review, in whatever
        spelling, stays so; and so does a new answer to a question that others have taught, except
        if it `may_replace` theirs.

        Raises:
            NoConsent: it holds words of a member who did not consent; nothing is stored.
        """
        sql = f"""
            INSERT INTO examples (scope, user, bot, author_id, source, asked_by, reply_id,
                consent_version, corrects, status, weight, created_at, question)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, {_STATUS_SQL}, ?11, ?14, question_key(?2)
            FROM (
                SELECT {_required_consent_sql("new")} AS member
                FROM (SELECT ?4 AS author_id, ?6 AS asked_by, ?8 AS consent_version) AS new
            ) WHERE member IS NULL OR {_active_consent_sql("?1", "member")} IS NOT NULL
            ON CONFLICT (scope, conversation, turn, user, bot) DO UPDATE SET
                weight = max(weight, excluded.weight),
                status = iif(?12 AND excluded.status = 'approved', 'approved', status),
                {_BECOMES_TAUGHT_SQL}
            RETURNING *
        """
        row = await self._fetch_one(sql, *astuple(new), utc_now_iso())
        if row is None:
            raise NoConsent
        stored = example_of(row)
        if new.consent_version is None and stored.author_id != new.author_id:
            await self._add_source(stored.id, new)
        return stored

    async def _add_source(self, example_id: int, new: NewExample) -> None:
        sql = "INSERT OR IGNORE INTO example_sources VALUES (?, ?, ?, ?, ?)"
        values = (example_id, new.author_id, new.source, new.asked_by, utc_now_iso())
        await self._execute(sql, *values)

    async def is_taught_by(self, scope: int, author_id: int, user: str, bot: str) -> bool:
        """Whether a member has taught this very pair already."""
        sql = """
            SELECT 1 FROM examples
            WHERE scope = ?1 AND conversation = '' AND turn = 0 AND user = ?3 AND bot = ?4
              AND consent_version IS NULL
              AND (author_id = ?2 OR id IN
                   (SELECT example_id FROM example_sources WHERE author_id = ?2))
        """
        return bool(await self._fetch_all(sql, scope, author_id, user, bot))

    async def has_newer_answer(self, example: Example) -> bool:
        """Whether another approved answer to the same question is newer, so that it is learned."""
        sql = f"""
            SELECT 1 FROM examples INDEXED BY examples_by_question
            WHERE scope = ?1 AND {_SAME_QUESTION_SQL}
                AND status = 'approved' AND bot <> ?3 AND id > ?4 LIMIT 1
        """
        values = (example.scope, example.user, example.bot, example.id)
        return bool(await self._fetch_all(sql, *values))

    async def make_newest(self, new: NewExample) -> Example | None:
        """Make a stored pair the newest answer to its question, otherwise unchanged: its author and
        its other sources stay.

        None, and nothing changes, if it was collected from a conversation; and unless a manager
        teaches it, also if others taught the pair as well, or if it would have to wait for a review
        (see `add`)."""
        sql = f"""
            UPDATE examples SET id = (SELECT max(id) + 1 FROM examples), created_at = ?14
            WHERE scope = ?1 AND conversation = '' AND turn = 0 AND user = ?2 AND bot = ?3
              AND consent_version IS NULL AND status = 'approved'
              AND (?12 OR author_id = ?4
                   AND NOT EXISTS (SELECT 1 FROM example_sources WHERE example_id = examples.id))
              AND {_STATUS_SQL} = 'approved'
            RETURNING *
        """
        row = await self._fetch_one(sql, *astuple(new), utc_now_iso())
        return example_of(row) if row else None

    async def other_teachers(self, example_ids: Iterable[int]) -> list[int]:
        """Who taught these examples besides their authors."""
        sql = """
            SELECT DISTINCT author_id FROM example_sources
            WHERE example_id IN (SELECT value FROM json_each(?)) ORDER BY author_id
        """
        rows = await self._fetch_all(sql, json.dumps(list(example_ids)))
        return [row[0] for row in rows]

    async def add_pairs(
        self, scope: int, pairs: Iterable[Pair], author_id: int, default_source: str
    ) -> int:
        """Add the pairs of a file, all or none; return how many were new. Of those that are there
        already, the author becomes a second source.

        They are staged batch by batch in a temporary table, so that a large file is never in
        memory as a whole, and then added by a single statement. SQLite's JSON can hold neither NUL
        nor lone surrogates: U+FFFD and “?” replace them.
        """
        staged = f"temp.staged_{next(self._staging)}"
        create_sql = f"CREATE TABLE {staged} (user, bot, conversation, turn, source)"
        stage_sql = f"""
            INSERT INTO {staged}
            SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
                json_extract(value, '$[2]'), json_extract(value, '$[3]'),
                coalesce(nullif(json_extract(value, '$[4]'), ''), ?2)
            FROM json_each(?1) ORDER BY key
        """
        sql = f"""
            INSERT INTO examples
                (scope, user, bot, conversation, turn, author_id, source, created_at, question)
            SELECT ?1, user, bot, conversation, turn, ?2, source, ?3, question_key(user)
            FROM {staged} WHERE true ORDER BY rowid
            ON CONFLICT (scope, conversation, turn, user, bot) DO NOTHING
        """
        second_source_sql = f"""
            INSERT OR IGNORE INTO example_sources
            SELECT examples.id, ?2, staged.source, NULL, ?3
            FROM {staged} AS staged JOIN examples USING (conversation, turn, user, bot)
            WHERE scope = ?1 AND author_id <> ?2
        """
        values = (scope, author_id, utc_now_iso())
        await self._fetch_all(create_sql)
        try:
            async for batch in _batches(pairs):
                await self._execute(stage_sql, batch, default_source)
            new = await self._execute(sql, *values)
            await self._execute(second_source_sql, *values)
            return new
        finally:
            await self._fetch_all(f"DROP TABLE {staged}")

    async def count_existing_pairs(self, scope: int, pairs: Iterable[Pair]) -> int:
        """How many of the pairs the scope has already, so that `add_pairs` would skip them."""
        known = 0
        async for batch in _batches(pairs):
            [row] = await self._fetch_all(
                """
                SELECT count(*) FROM json_each(?2) WHERE EXISTS (
                    SELECT 1 FROM examples
                    WHERE scope = ?1 AND conversation = json_extract(value, '$[2]')
                        AND turn = json_extract(value, '$[3]')
                        AND user = json_extract(value, '$[0]')
                        AND bot = json_extract(value, '$[1]')
                )
                """,
                scope,
                batch,
            )
            known += int(row[0])
        return known

    async def all(self, scope: int, status: ReviewStatus | None = None) -> list[Example]:
        """All examples of the scope, or those of one status, by id: for reviewing only, since what
        is learned or exported comes from `trainable`."""
        return await self.page(scope, status, after_id=0, limit=-1)

    async def trainable(self, scope: int) -> list[Example]:
        """The examples that may be learned now, by id: all at once, see `trainable_pages`."""
        return await self._trainable_page(scope, 0, -1)

    async def trainable_pages(self, scope: int) -> AsyncIterator[list[Example]]:
        """The same page by page: a large data set is never in memory as a whole."""
        after_id = 0
        while page := await self._trainable_page(scope, after_id, PAGE_EXAMPLES):
            yield page
            after_id = page[-1].id

    async def _trainable_page(self, scope: int, after_id: int, limit: int) -> list[Example]:
        """The next examples that may be learned now.

        They are approved, not voted down, and have the consent that they need; `consent_version` is
        that of the consent that stands now. Each like in excess of the dislikes of its reply adds 1
        to the weight, up to MAX_WEIGHT."""
        sql = f"""
            WITH judged AS (
                SELECT *, {_required_consent_sql("examples")} AS member, coalesce(
                    (SELECT sum(value) FROM ratings
                     WHERE ratings.reply_id = examples.reply_id AND NOT corrects), 0
                ) AS votes
                FROM examples WHERE scope = ?1 AND status = 'approved' AND id > ?3
            )
            SELECT id, scope, user, bot, author_id, source, created_at, status,
                max(weight, min(weight + votes, {MAX_WEIGHT})) AS weight,
                conversation, turn, asked_by, reply_id, standing AS consent_version, corrects
            FROM (
                SELECT *, {_active_consent_sql("judged.scope", "judged.member")} AS standing
                FROM judged
            )
            WHERE votes >= 0 AND (member IS NULL OR standing IS NOT NULL)
                AND (?2 OR consent_version IS NULL) ORDER BY id LIMIT ?4
        """
        return await self._examples(sql, scope, self._include_collected, after_id, limit)

    async def judged(self, scope: int) -> list[JudgedReply]:
        """The replies of models that people judged, by the id of the example, whose questions may
        be learned now: approved, and with the consent that they need.

        Such are the replies that examples were collected from, with their votes; and those that a
        better answer replaced, as long as their words are stored, and unless they were generated
        anew since. A vote of somebody who is being erased does not count."""
        sql = f"""
            WITH judged AS (
                SELECT *, {_required_consent_sql("examples")} AS member FROM examples
                WHERE scope = ?1 AND status = 'approved' AND reply_id IS NOT NULL
                    AND (corrects OR consent_version IS NOT NULL)
            ), allowed AS (
                SELECT *, {_active_consent_sql("judged.scope", "judged.member")} AS standing
                FROM judged
            )
            SELECT id, scope, user, bot, author_id, source, created_at, status, weight,
                conversation, turn, asked_by, reply_id, standing AS consent_version, corrects,
                iif(corrects, (
                    SELECT content FROM messages JOIN replies ON replies.reply_id = discord_id
                    WHERE discord_id = allowed.reply_id AND replies.example_id IS NULL
                        AND completion_tokens > 0 AND replies.created_at <= allowed.created_at
                ), bot) AS reply,
                (
                    SELECT json_group_object(user_id, value) FROM ratings
                    WHERE ratings.reply_id = allowed.reply_id AND NOT corrects
                        AND user_id NOT IN (SELECT user_id FROM forgettings)
                ) AS votes
            FROM allowed
            WHERE (member IS NULL OR standing IS NOT NULL) AND (?2 OR consent_version IS NULL)
                AND reply IS NOT NULL AND (corrects OR votes <> '{{}}')
            ORDER BY id
        """
        rows = await self._fetch_all(sql, scope, self._include_collected)
        return await asyncio.to_thread(lambda: [_judged(row) for row in rows])

    async def count_trainable(self, scope: int) -> int:
        """How many examples may be learned now."""
        return sum([len(page) async for page in self.trainable_pages(scope)])

    async def text_lengths(self, scope: int, column: Literal["user", "bot"]) -> list[int]:
        """The lengths of one side of all examples in characters, the shortest first."""
        sql = f"""
            SELECT length({column}), count(*) FROM examples WHERE scope = ?
            GROUP BY 1 ORDER BY 1
        """
        rows = await self._fetch_all(sql, scope)
        return [length for length, times in rows for _ in range(times)]

    async def version(self, scope: int) -> int:
        """A number that grows whenever `trainable` may have changed: with each change of an
        example, a consent or a rating, which triggers in the database see."""
        sql = "SELECT version FROM dataset_versions WHERE scope = ?"
        row = await self._fetch_one(sql, scope)
        return int(row[0]) if row else 0

    async def page(
        self, scope: int, status: ReviewStatus | None, after_id: int, limit: int
    ) -> list[Example]:
        """The next examples of the scope after an id; of any status if it is None."""
        of_status = "" if status is None else "AND status = ?4"
        sql = (
            f"SELECT * FROM examples WHERE scope = ?1 AND id > ?2 {of_status} ORDER BY id LIMIT ?3"
        )
        values = () if status is None else (status.value,)
        return await self._examples(sql, scope, after_id, limit, *values)

    async def get(self, scope: int, example_id: int) -> Example | None:
        """The scope's example with that id."""
        sql = "SELECT * FROM examples WHERE scope = ? AND id = ?"
        row = await self._fetch_one(sql, scope, example_id)
        return example_of(row) if row else None

    async def count(self, scope: int) -> int:
        """How many examples the scope has."""
        [row] = await self._fetch_all("SELECT count(*) FROM examples WHERE scope = ?", scope)
        return int(row[0])

    async def count_by_status_and_source(self, scope: int) -> dict[tuple[ReviewStatus, str], int]:
        """How many examples of each status and source the scope has."""
        sql = """
            SELECT status, source, count(*) FROM examples WHERE scope = ?
            GROUP BY status, source ORDER BY status, source
        """
        return {(ReviewStatus(row[0]), row[1]): row[2] for row in await self._fetch_all(sql, scope)}

    async def set_review(
        self, scope: int, example_id: int, review: ReviewStatus, seen: Example | None = None
    ) -> bool:
        """Set an example's status; False if there is none. With `seen`, also if its words or its
        status are no longer those: somebody else was faster."""
        sql = """
            UPDATE examples SET status = ?3 WHERE scope = ?1 AND id = ?2
                AND (?4 IS NULL OR (status = ?4 AND user = ?5 AND bot = ?6))
        """
        as_seen = (seen.status.value, seen.user, seen.bot) if seen else (None, None, None)
        return bool(await self._execute(sql, scope, example_id, review.value, *as_seen))

    async def edit(self, scope: int, example_id: int, user: str, bot: str) -> Example | None:
        """Change the texts of an example; None if there is none.

        With a new answer, it corrects the reply that it comes from: `corrects` is set. Raises
        StoreError if the scope has that pair already."""
        sql = """
            UPDATE OR IGNORE examples
            SET corrects = corrects OR (reply_id IS NOT NULL AND bot <> ?4), user = ?3, bot = ?4,
                question = question_key(?3)
            WHERE scope = ?1 AND id = ?2 RETURNING *
        """
        row = await self._fetch_one(sql, scope, example_id, user, bot)
        if row is None and await self.get(scope, example_id):
            raise StoreError(phrase("The data set already has this pair."))
        return example_of(row) if row else None

    async def remove(self, scope: int, example_id: int) -> bool:
        """Delete an example; False if the scope has none with that id."""
        sql = "DELETE FROM examples WHERE scope = ? AND id = ?"
        return bool(await self._execute(sql, scope, example_id))

    async def remove_source(self, scope: int, source: str) -> int:
        """Delete the examples of a source; return how many. Those that somebody else has submitted
        from another source stay as theirs."""
        sql = """
            DELETE FROM examples WHERE id IN
                (SELECT id FROM examples WHERE scope = ?1 AND source = ?3 LIMIT ?2)
        """
        second_sql = """
            DELETE FROM example_sources
            WHERE source = ? AND example_id IN (SELECT id FROM examples WHERE scope = ?)
        """
        await self._execute(second_sql, source, scope)
        values = (scope, DELETE_BATCH_ROWS, source)
        while await self._execute(inherit_sql("scope = ?1 AND source = ?3"), *values):
            pass
        removed = 0
        while count := await self._execute(sql, *values):
            removed += count
        return removed

    async def remove_pending_collected(self, user_id: int, scope: int | None = None) -> int:
        """Delete what was collected with a member's consent and is not yet reviewed; return the
        count. `scope` None: in every scope."""
        sql = f"""
            DELETE FROM examples
            WHERE status = 'waiting' AND ({_required_consent_sql("examples")}) = ?1
              AND (?2 IS NULL OR scope = ?2)
        """
        return await self._execute(sql, user_id, scope)

    async def _examples(self, sql: str, *values: object) -> list[Example]:
        return await asyncio.to_thread(_drain_rows, await self._fetch_all(sql, *values))


async def _batches(pairs: Iterable[Pair]) -> AsyncIterator[str]:
    """JSON arrays of `[user, bot, conversation, turn, source]`, made in a thread: the pairs may
    come from a file."""
    left = iter(pairs)
    while batch := await asyncio.to_thread(_next_batch, left):
        yield batch


def _next_batch(pairs: Iterator[Pair]) -> str:
    """The next pairs as JSON; "" at the end."""
    rows = [
        [_text(one.user), _text(one.bot), _text(one.conversation), one.turn, _text(one.source)]
        for one in islice(pairs, JSON_BATCH_PAIRS)
    ]
    return json.dumps(rows) if rows else ""


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _drain_rows(rows: list[sqlite3.Row]) -> list[Example]:
    """Free each row once it is converted: to free 100,000 in one go, as dropping the list does,
    holds the GIL and stops the event loop. Runs in a thread; `rows` is empty afterwards."""
    rows.reverse()
    return [example_of(rows.pop()) for _ in range(len(rows))]


def _judged(row: sqlite3.Row) -> JudgedReply:
    votes = {int(who): value for who, value in json.loads(row["votes"]).items()}
    return JudgedReply(example_of(row), row["reply"], votes)


def example_of(row: sqlite3.Row) -> Example:
    """The record of a row of `examples`, which may have other columns beside it."""
    fields: dict[str, Any] = dict(row)
    for name in ("question", "number", "reply", "votes"):
        fields.pop(name, None)
    fields["created_at"] = datetime.fromisoformat(row["created_at"])
    fields["status"] = ReviewStatus(row["status"])
    fields["corrects"] = bool(row["corrects"])
    return Example(**fields)

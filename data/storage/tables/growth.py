"""What was taught when, by whom: the examples as the page of growth shows them.

Reads the table of `data.storage.tables.examples`, and the counts of it that triggers in the
database keep. Does not know who may see what.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from core.records import Example, ReviewStatus, TaughtGroup
from data.storage.connection import Repository
from data.storage.tables.examples import example_of

NEWEST = 2**62
"""More than any id."""
WINDOW_EXAMPLES = 5000
"""Examples whose words one statement of a search reads."""
SEARCH_S = 0.03
"""Seconds after which a search begins no other window."""
_DAY = "substr(created_at, 1, 10)"
"""The day of an example, as the index `examples_by_day` has it."""


@dataclass(frozen=True, slots=True)
class Search:
    """What of a data set is looked for; None and "" are anything. `text` is a part of either side,
    whatever the case of its ASCII letters."""

    text: str = ""
    status: ReviewStatus | None = None
    author_id: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. It ran out of time at the id `stopped_at`, if there is one: what lies
    beyond was not looked at."""

    examples: list[Example]
    stopped_at: int | None = None


class Growth(Repository):
    """The lessons of every scope, over time."""

    async def days(self, scope: int) -> list[tuple[date, int]]:
        """How much of the data set was taught on which day, the first day first."""
        sql = "SELECT day, sum(count) FROM example_counts WHERE scope = ? GROUP BY day ORDER BY day"
        return _days(await self._fetch_all(sql, scope))

    async def on_day(self, scope: int, day: date) -> list[TaughtGroup]:
        """What was taught on a day, by author and source, the newest first. (Several days in one
        statement would be sorted once more, which takes longer.)"""
        sql = f"""
            SELECT author_id, source, count(*), max(id) FROM examples
            WHERE scope = ? AND {_DAY} = ? GROUP BY 1, 2 ORDER BY 4 DESC
        """
        rows = await self._fetch_all(sql, scope, day.isoformat())
        return [TaughtGroup(day, *row) for row in rows]

    async def newest_of(
        self, scope: int, groups: Sequence[TaughtGroup], count: int
    ) -> list[list[Example]]:
        """The newest `count` examples of each group."""
        sql = f"""
            SELECT wanted.key AS number, examples.* FROM json_each(?2) AS wanted JOIN examples
            ON examples.id IN (
                SELECT id FROM examples AS one WHERE one.scope = ?1
                    AND substr(one.created_at, 1, 10) = json_extract(wanted.value, '$[0]')
                    AND one.author_id = json_extract(wanted.value, '$[1]')
                    AND one.source = json_extract(wanted.value, '$[2]')
                ORDER BY id DESC LIMIT {count:d}
            ) ORDER BY number, examples.id DESC
        """
        wanted = [(one.day.isoformat(), one.author_id, one.source) for one in groups]
        found: list[list[Example]] = [[] for _ in groups]
        for row in await self._fetch_all(sql, scope, json.dumps(wanted)):
            found[row["number"]].append(example_of(row))
        return found

    async def taught_by(
        self, scope: int, author_id: int, count: int, before_id: int = NEWEST
    ) -> list[Example]:
        """What a member taught, the newest first, also as the second to do so.

        Another member's words are left out, as in `MemberData.export`: `user` is then empty. (CROSS
        JOIN begins with the author's rows; SQLite would look through all of the scope.)"""
        sql = """
            SELECT id, scope, iif(coalesce(asked_by, ?2) = ?2, user, '') AS user, bot, author_id,
                source, created_at, status, weight, conversation, turn, corrects
            FROM examples WHERE scope = ?1 AND author_id = ?2 AND id < ?3
            UNION ALL
            SELECT id, scope, user, bot, one.author_id, one.source, one.created_at, status, weight,
                conversation, turn, corrects
            FROM example_sources AS one CROSS JOIN examples ON id = example_id
            WHERE scope = ?1 AND one.author_id = ?2 AND examples.author_id <> ?2 AND id < ?3
                AND coalesce(one.asked_by, ?2) = ?2
            ORDER BY id DESC LIMIT ?4
        """
        return _examples(await self._fetch_all(sql, scope, author_id, before_id, count))

    async def days_of(self, scope: int, author_id: int) -> list[tuple[date, int]]:
        """How much a member taught on which day, the first day first. (Index and join are
        given as in `taught_by`.)"""
        sql = """
            SELECT substr(created_at, 1, 10), count(*) FROM (
                SELECT created_at FROM examples INDEXED BY examples_by_author
                WHERE scope = ?1 AND author_id = ?2
                UNION ALL
                SELECT one.created_at
                FROM example_sources AS one CROSS JOIN examples ON id = example_id
                WHERE scope = ?1 AND one.author_id = ?2 AND examples.author_id <> ?2
            ) GROUP BY 1 ORDER BY 1
        """
        return _days(await self._fetch_all(sql, scope, author_id))

    async def statuses(self, scope: int) -> dict[ReviewStatus, int]:
        """How many examples the scope has, by their status."""
        sql = "SELECT status, sum(count) FROM example_counts WHERE scope = ? GROUP BY status"
        return {ReviewStatus(row[0]): row[1] for row in await self._fetch_all(sql, scope)}

    async def older(
        self, scope: int, search: Search, before_id: int, count: int, budget_s: float = SEARCH_S
    ) -> Found:
        """The examples that are found below an id, the newest first."""
        return await self._search(scope, search, count, before_id, budget_s, newer=False)

    async def newer(
        self, scope: int, search: Search, after_id: int, count: int, budget_s: float = SEARCH_S
    ) -> Found:
        """The nearest of those above an id, the newest first."""
        found = await self._search(scope, search, count, after_id, budget_s, newer=True)
        return Found(found.examples[::-1], found.stopped_at)

    async def _search(
        self, scope: int, search: Search, count: int, start: int, budget_s: float, *, newer: bool
    ) -> Found:
        """Look through one window after the other: no other user of the database waits for longer
        than one of them takes."""
        began, found = time.perf_counter(), list[Example]()
        place: int | None = start
        while place is not None:
            end = await self._window_end(scope, place, newer=newer) if search.text else None
            found += await self._matches(scope, search, count - len(found), place, end, newer=newer)
            if len(found) == count:
                return Found(found)
            place = end
            if place is not None and time.perf_counter() - began > budget_s:
                break
        return Found(found, place)

    async def _window_end(self, scope: int, start: int, *, newer: bool) -> int | None:
        """The id at the end of the window that begins at an id; None if it is the last one."""
        side, order = (">", "") if newer else ("<", "DESC")
        sql = f"""
            SELECT id FROM examples WHERE scope = ? AND id {side} ?
            ORDER BY id {order} LIMIT 1 OFFSET {WINDOW_EXAMPLES - 1}
        """
        row = await self._fetch_one(sql, scope, start)
        return row[0] if row else None

    async def _matches(
        self, scope: int, search: Search, count: int, start: int, end: int | None, *, newer: bool
    ) -> list[Example]:
        """What is found after one end of a window, up to the other."""
        side, limit, order = (">", "<=", "") if newer else ("<", ">=", "DESC")
        conditions = [f"AND id {side} ?"]
        values: list[object] = [scope, start]
        if end is not None:
            conditions.append(f"AND id {limit} ?")
            values.append(end)
        if search.status is not None:
            conditions.append("AND status = ?")
            values.append(search.status.value)
        if search.author_id is not None:
            conditions.append("AND author_id = ?")
            values.append(search.author_id)
        if search.text:
            conditions.append(r"AND (user LIKE ? ESCAPE '\' OR bot LIKE ? ESCAPE '\')")
            values += [_part(search.text)] * 2
        sql = f"""
            SELECT * FROM examples WHERE scope = ? {" ".join(conditions)}
            ORDER BY id {order} LIMIT ?
        """
        return _examples(await self._fetch_all(sql, *values, count))


def _part(text: str) -> str:
    """The pattern of LIKE for a text that may stand anywhere."""
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def _examples(rows: list[sqlite3.Row]) -> list[Example]:
    return [example_of(row) for row in rows]


def _days(rows: list[sqlite3.Row]) -> list[tuple[date, int]]:
    return [(date.fromisoformat(row[0]), row[1]) for row in rows]

"""What was taught when, by whom: the examples as the page of growth shows them.

Reads the table of `data.storage.tables.examples`. Does not know who may see what.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import date

from core.records import Example, ReviewStatus, TaughtGroup
from data.storage.connection import Repository
from data.storage.tables.examples import example_of

NEWEST = 2**62
"""More than any id."""


@dataclass(frozen=True, slots=True)
class Search:
    """What of a data set is looked for; None and "" are anything. `text` is a part of either side,
    whatever the case of its ASCII letters."""

    text: str = ""
    status: ReviewStatus | None = None
    author_id: int | None = None


class Growth(Repository):
    """The lessons of every scope, over time."""

    async def groups(self, scope: int) -> list[TaughtGroup]:
        """Everything in the data set, the newest first."""
        sql = """
            SELECT substr(created_at, 1, 10), author_id, source, count(*), min(id), max(id) AS last
            FROM examples WHERE scope = ? GROUP BY 1, 2, 3 ORDER BY 1 DESC, last DESC
        """
        rows = await self._fetch_all(sql, scope)
        return [TaughtGroup(date.fromisoformat(row[0]), *row[1:]) for row in rows]

    async def newest_of(self, scope: int, group: TaughtGroup, count: int) -> list[Example]:
        """The newest examples of a group."""
        sql = """
            SELECT * FROM examples
            WHERE scope = ? AND id BETWEEN ? AND ? AND author_id = ? AND source = ?
                AND substr(created_at, 1, 10) = ?
            ORDER BY id DESC LIMIT ?
        """
        place = (group.first_id, group.last_id, group.author_id, group.source)
        return _examples(await self._fetch_all(sql, scope, *place, group.day.isoformat(), count))

    async def taught_by(
        self, scope: int, author_id: int, count: int, before_id: int = NEWEST
    ) -> list[Example]:
        """What a member taught, the newest first, also as the second to do so.

        Another member's words are left out, as in `MemberData.export`: `user` is then empty."""
        sql = """
            SELECT id, scope, iif(coalesce(asked_by, ?2) = ?2, user, '') AS user, bot, author_id,
                source, created_at, status, weight, conversation, turn, corrects
            FROM examples WHERE scope = ?1 AND author_id = ?2 AND id < ?3
            UNION ALL
            SELECT id, scope, user, bot, one.author_id, one.source, one.created_at, status, weight,
                conversation, turn, corrects
            FROM example_sources AS one JOIN examples ON id = example_id
            WHERE scope = ?1 AND one.author_id = ?2 AND examples.author_id <> ?2 AND id < ?3
                AND coalesce(one.asked_by, ?2) = ?2
            ORDER BY id DESC LIMIT ?4
        """
        return _examples(await self._fetch_all(sql, scope, author_id, before_id, count))

    async def days_of(self, scope: int, author_id: int) -> list[tuple[date, int]]:
        """How much a member taught on which day, the first day first."""
        sql = """
            SELECT substr(created_at, 1, 10), count(*) FROM (
                SELECT created_at FROM examples WHERE scope = ?1 AND author_id = ?2
                UNION ALL
                SELECT one.created_at FROM example_sources AS one JOIN examples ON id = example_id
                WHERE scope = ?1 AND one.author_id = ?2 AND examples.author_id <> ?2
            ) GROUP BY 1 ORDER BY 1
        """
        rows = await self._fetch_all(sql, scope, author_id)
        return [(date.fromisoformat(row[0]), row[1]) for row in rows]

    async def statuses(self, scope: int) -> dict[ReviewStatus, int]:
        """How many examples the scope has, by their status; an index holds all that it reads."""
        sql = "SELECT status, count(*) FROM examples WHERE scope = ? GROUP BY status"
        return {ReviewStatus(row[0]): row[1] for row in await self._fetch_all(sql, scope)}

    async def older(self, scope: int, search: Search, before_id: int, count: int) -> list[Example]:
        """The examples that are found below an id, the newest first."""
        return await self._search(scope, search, f"id < {before_id:d} ORDER BY id DESC", count)

    async def newer(self, scope: int, search: Search, after_id: int, count: int) -> list[Example]:
        """The nearest of those above an id, the newest first."""
        found = await self._search(scope, search, f"id > {after_id:d} ORDER BY id", count)
        return found[::-1]

    async def _search(self, scope: int, search: Search, place: str, count: int) -> list[Example]:
        conditions: list[str] = ["scope = ?"]
        values: list[object] = [scope]
        if search.status is not None:
            conditions.append("status = ?")
            values.append(search.status.value)
        if search.author_id is not None:
            conditions.append("author_id = ?")
            values.append(search.author_id)
        if search.text:
            conditions.append(r"(user LIKE ? ESCAPE '\' OR bot LIKE ? ESCAPE '\')")
            values += [_part(search.text)] * 2
        sql = f"SELECT * FROM examples WHERE {' AND '.join(conditions)} AND {place} LIMIT ?"
        return _examples(await self._fetch_all(sql, *values, count))


def _part(text: str) -> str:
    """The pattern of LIKE for a text that may stand anywhere."""
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def _examples(rows: list[sqlite3.Row]) -> list[Example]:
    return [example_of(row) for row in rows]

"""The golden questions of each scope, and how the models last answered them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from core.questions import question_key
from core.records import GoldenKind, GoldenQuestion, GoldenScore
from data.storage.connection import Repository, utc_now_iso

_NEEDS_NO_CONSENT_SQL = "consent_version IS NULL AND coalesce(asked_by, author_id) = author_id"
"""That an example was handed over by whoever said it: nobody can withdraw it but by removing it."""


@dataclass(frozen=True, slots=True)
class GoldenTally:
    """How many of the golden questions that a model was asked it passes; `asked_at` is the last
    time, in UTC."""

    passed: int
    asked: int
    asked_at: datetime


class GoldenTable(Repository):
    """The golden questions of all scopes."""

    async def add(self, new: GoldenQuestion) -> GoldenQuestion | None:
        """Add a question under a new id; None if the scope has it already.

        One that asks for what was taught, word for word, goes when that is taught no more
        (triggers in the database see to it)."""
        sql = """
            INSERT INTO golden_questions
                (scope, question, key, kind, expected, needed, added_by, added_at, taught)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?4 IN ('contain', 'equal') AND EXISTS (
                SELECT 1 FROM examples
                WHERE scope = ?1 AND question = ?3 AND bot = ?5 AND status <> 'rejected'
            ) WHERE NOT EXISTS (
                SELECT 1 FROM golden_questions
                WHERE scope = ?1 AND key = ?3 AND kind = ?4 AND expected = ?5
            ) RETURNING *
        """
        text, key, now = new.question, question_key(new.question), utc_now_iso()
        values = new.scope, text, key, new.kind, new.expected, new.needed, new.added_by, now
        row = await self._fetch_one(sql, *values)
        return _question(row) if row else None

    async def remove(self, scope: int, golden_id: int) -> GoldenQuestion | None:
        """Remove a question with its scores; None if the scope has none of that id."""
        sql = "DELETE FROM golden_questions WHERE scope = ? AND id = ? RETURNING *"
        row = await self._fetch_one(sql, scope, golden_id)
        return _question(row) if row else None

    async def forget(self, scope: int) -> None:
        """Remove all questions of a scope with their scores."""
        await self._execute("DELETE FROM golden_questions WHERE scope = ?", scope)

    async def all(self, scope: int) -> list[GoldenQuestion]:
        """The questions of a scope, oldest first."""
        sql = "SELECT * FROM golden_questions WHERE scope = ? ORDER BY id"
        return [_question(row) for row in await self._fetch_all(sql, scope)]

    async def record(self, scope: int, scores: Iterable[GoldenScore]) -> None:
        """Keep how a model answered, in place of how it did before. Questions that are gone by now
        are left out."""
        sql = """
            INSERT INTO golden_scores (golden_id, model, alone, in_talk, asked_at)
            SELECT id, ?3, ?4, ?5, ?6 FROM golden_questions WHERE id = ?1 AND scope = ?2
            ON CONFLICT (golden_id, model) DO UPDATE SET
                alone = excluded.alone, in_talk = excluded.in_talk, asked_at = excluded.asked_at
        """
        for one in scores:
            at = one.asked_at.isoformat()
            await self._execute(sql, one.golden_id, scope, one.model, one.alone, one.in_talk, at)

    async def scores(self, scope: int, model: str) -> dict[int, GoldenScore]:
        """How a model last answered, by the id of the question."""
        sql = """
            SELECT golden_id, model, alone, in_talk, needed, asked_at
            FROM golden_scores JOIN golden_questions ON id = golden_id
            WHERE scope = ? AND model = ? ORDER BY id
        """
        rows = await self._fetch_all(sql, scope, model)
        return {row["golden_id"]: _score(row) for row in rows}

    async def tallies(self, scope: int) -> dict[str, GoldenTally]:
        """How many questions each model passes, by its name."""
        sql = """
            SELECT model, sum(min(alone, in_talk) >= needed), count(*), max(asked_at)
            FROM golden_scores JOIN golden_questions ON id = golden_id
            WHERE scope = ? GROUP BY model
        """
        rows = await self._fetch_all(sql, scope)
        return {row[0]: GoldenTally(row[1], row[2], datetime.fromisoformat(row[3])) for row in rows}

    async def most_taught(self, scope: int, most: int) -> list[int]:
        """The questions that were taught most often and are not golden yet, as the ids of the
        newest example of each; of equally many, the newest first. Groups the whole data set."""
        sql = f"""
            WITH taught AS (
                SELECT question, count(*) AS times, max(id) AS newest
                FROM examples
                WHERE scope = ?1 AND status = 'approved' AND {_NEEDS_NO_CONSENT_SQL}
                GROUP BY question
                UNION ALL
                SELECT question, count(*), 0 FROM example_sources
                JOIN examples ON id = example_id WHERE scope = ?1 GROUP BY question
            ), often AS (
                SELECT question, sum(times) AS times, max(newest) AS newest FROM taught
                WHERE question NOT IN (SELECT key FROM golden_questions WHERE scope = ?1)
                GROUP BY question ORDER BY 2 DESC, 3 DESC LIMIT ?2
            )
            SELECT max(id) FROM often JOIN examples USING (question)
            WHERE scope = ?1 AND status = 'approved' AND {_NEEDS_NO_CONSENT_SQL}
            GROUP BY question ORDER BY times DESC, newest DESC
        """
        return [row[0] for row in await self._fetch_all(sql, scope, most)]

    async def taught_questions(self, example_ids: Iterable[int]) -> list[str]:
        """The questions of these examples, in their order."""
        sql = "SELECT user FROM json_each(?) JOIN examples ON examples.id = value ORDER BY key"
        return [row[0] for row in await self._fetch_all(sql, json.dumps(list(example_ids)))]

    async def taught_answer(self, scope: int, question: str) -> str | None:
        """The newest approved answer that was taught to a question; None without one."""
        sql = f"""
            SELECT bot FROM examples
            WHERE scope = ? AND question = ? AND status = 'approved' AND {_NEEDS_NO_CONSENT_SQL}
            ORDER BY id DESC LIMIT 1
        """
        row = await self._fetch_one(sql, scope, question_key(question))
        return row[0] if row else None


def _question(row: sqlite3.Row) -> GoldenQuestion:
    return GoldenQuestion(
        id=row["id"],
        scope=row["scope"],
        question=row["question"],
        kind=GoldenKind(row["kind"]),
        expected=row["expected"],
        needed=row["needed"],
        added_by=row["added_by"],
    )


def _score(row: sqlite3.Row) -> GoldenScore:
    return GoldenScore(
        golden_id=row["golden_id"],
        model=row["model"],
        alone=row["alone"],
        in_talk=row["in_talk"],
        needed=row["needed"],
        asked_at=datetime.fromisoformat(row["asked_at"]),
    )

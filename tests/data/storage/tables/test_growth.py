"""What was taught when: the counts that the database keeps, and how little a page reads."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from core.records import NewExample, Pair, ReviewStatus
from data.storage.erasure import erase_member
from data.storage.storage import Storage
from tests.data.storage.records import ADA, BEN, CLEO, GUILD, OTHER

STEPS = 60
PEOPLE, WORDS = (ADA, BEN, CLEO), ("a", "b", "c", "d")


class Walk:
    """Does anything that changes examples, on any day."""

    def __init__(self, storage: Storage, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage, self.chance = storage, random.Random(seed)
        monkeypatch.setattr("data.storage.tables.examples.utc_now_iso", self._some_time)
        self.moves = (self.teach, self.teach, self.bring, self.review, self.edit, self.remove)
        self.rare = (self.erase, self.remove_source)

    def _some_time(self) -> str:
        return f"2026-03-{self.chance.randint(1, 5):02d}T12:00:00+00:00"

    async def step(self) -> None:
        await self.chance.choice(self.rare if self.chance.random() < 0.1 else self.moves)()

    async def teach(self) -> None:
        user, bot = self.chance.choices(WORDS, k=2)
        new = NewExample(
            self.chance.choice((GUILD, OTHER)),
            user,
            bot,
            self.chance.choice(PEOPLE),
            self.chance.choice(("teach", "chat")),
            status=self.chance.choice((ReviewStatus.APPROVED, ReviewStatus.WAITING)),
            by_manager=self.chance.random() < 0.5,
        )
        await self.storage.examples.add(new)
        await self.storage.examples.make_newest(new)

    async def bring(self) -> None:
        pairs = [Pair(*self.chance.choices(WORDS, k=2)) for _ in range(4)]
        await self.storage.examples.add_pairs(GUILD, pairs, self.chance.choice(PEOPLE), "import")

    async def review(self) -> None:
        status = self.chance.choice(list(ReviewStatus))
        await self.storage.examples.set_review(GUILD, await self._any(), status)

    async def edit(self) -> None:
        one = await self._any()
        if await self.storage.examples.get(GUILD, one):
            await self.storage.examples.edit(GUILD, one, f"new {one}", "answer")

    async def remove(self) -> None:
        await self.storage.examples.remove(GUILD, await self._any())

    async def remove_source(self) -> None:
        await self.storage.examples.remove_source(GUILD, self.chance.choice(("import", "teach")))

    async def erase(self) -> None:
        await erase_member(self.storage, self.chance.choice(PEOPLE), batch=2)

    async def _any(self) -> int:
        examples = await self.storage.examples.all(GUILD)
        return self.chance.choice(examples).id if examples else 0


@pytest.mark.parametrize("seed", range(4))
async def test_the_counts_are_those_of_the_examples_whatever_is_done(
    storage: Storage, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, sizes = Walk(storage, seed, monkeypatch), set()
    for _ in range(STEPS):
        await walk.step()
        for scope in (GUILD, OTHER):
            examples = await storage.examples.all(scope)
            sizes.add(len(examples))
            days = Counter(one.created_at.date() for one in examples)
            assert await storage.growth.days(scope) == sorted(days.items())
            statuses = Counter(one.status for one in examples)
            assert await storage.growth.statuses(scope) == statuses
    assert len(sizes) > 5


async def _fill(storage: Storage, author_id: int, count: int) -> None:
    """Lessons of one author on three days."""
    await storage._execute(
        """
        INSERT INTO examples (scope, user, bot, author_id, source, created_at)
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?3)
        SELECT ?1, 'question ' || n || ' of ' || ?2, 'answer', ?2, 'teach',
            '2026-03-0' || (1 + n % 3) || 'T12:00:00+00:00' FROM numbers
        """,
        GUILD,
        author_id,
        count,
    )


async def _steps(storage: Storage, read: Callable[[], Awaitable[object]]) -> int:
    """How many instructions SQLite's machine runs for something that is read."""
    counted = itertools.count()
    await storage._db.set_progress_handler(lambda: next(counted) < 0, 1)
    await read()
    await storage._db.set_progress_handler(None, 1)  # type: ignore[arg-type]
    return next(counted)


async def test_what_a_page_reads_does_not_grow_with_what_others_teach(storage: Storage) -> None:
    growth = storage.growth
    reads: dict[str, Callable[[], Awaitable[object]]] = {
        "days": lambda: growth.days(GUILD),
        "statuses": lambda: growth.statuses(GUILD),
        "a member's days": lambda: growth.days_of(GUILD, ADA),
        "a member's lessons": lambda: growth.taught_by(GUILD, ADA, 5),
    }
    await _fill(storage, ADA, 10)
    await _fill(storage, BEN, 10)
    few = {name: await _steps(storage, read) for name, read in reads.items()}
    await _fill(storage, CLEO, 2000)
    many = {name: await _steps(storage, read) for name, read in reads.items()}
    assert sum(count for _, count in await growth.days(GUILD)) == 2020
    assert many == few

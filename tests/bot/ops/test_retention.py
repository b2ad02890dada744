"""What is too old goes, and a chore goes on whatever happens to it. The clock is the test's."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from bot.ops.retention import (
    DAY_S,
    TASK_RETRY_S,
    GuardedClock,
    last_known_time,
    purge_expired,
    run_periodically,
)
from core.errors import StoreError
from data.storage.storage import Storage
from tests.data.storage.records import ADA, CHANNEL, NOON, made, said


async def test_only_what_is_older_than_the_days_is_erased(storage: Storage) -> None:
    for n in range(250):  # more than one batch
        await storage.messages.add(
            said(2 * n, f"word {n}", at=NOON - timedelta(days=30, seconds=n))
        )
        record = made(2 * n + 1, 2 * n, at=NOON - timedelta(days=30, seconds=n))
        await storage.replies.add(record)
    assert await purge_expired(storage, 30, lambda: NOON) == 498
    [left] = await storage.messages.context(CHANNEL, 10)
    assert left.message.content == "word 0"
    assert (await storage.members.summary(ADA)).replies == 1
    assert await purge_expired(storage, 30, lambda: NOON) == 0
    assert await purge_expired(storage, 30, lambda: NOON + timedelta(seconds=1)) == 2


async def test_a_clock_that_is_set_forward_erases_nothing_that_day(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    await storage.messages.add(said(1, "keep me", at=NOON))
    time = {"day": 0.0, "wrong by": 0.0}
    calendar = GuardedClock(
        lambda: NOON + timedelta(days=time["day"] + time["wrong by"]),
        lambda: DAY_S * time["day"],
    )
    erased = []
    for wrong_by in (0.0, 3650.0, 0.0, 0.9):  # the third: it was set right again
        time["wrong by"] = wrong_by
        erased.append(await purge_expired(storage, 30, calendar))
        time["day"] += 1
    assert erased == [0, 0, 0, 0]
    assert caplog.text.count("the clock was set forward") == 1
    assert len(await storage.messages.context(CHANNEL, 10)) == 1
    time["day"] = 31
    assert await purge_expired(storage, 30, calendar) == 1


@pytest.mark.parametrize("wrong_by", [-400, -2, 2, 400])
async def test_a_start_with_a_wrong_clock_erases_nothing(storage: Storage, wrong_by: int) -> None:
    """Whatever is known of the right time: that of an earlier run, or of what was written."""
    for number, at in enumerate((NOON - timedelta(days=31), NOON, NOON + timedelta(days=500))):
        await storage.messages.add(said(number, "keep me", at=at))
    discord: list[datetime] = []
    now = NOON + timedelta(days=wrong_by)
    await storage.marks.set_trusted_time(NOON)
    clock = GuardedClock(
        lambda: now,
        lambda: 0.0,
        last=await last_known_time(storage),
        witness=lambda: discord[-1] if discord else None,
    )
    assert await purge_expired(storage, 30, clock) == 0
    discord.append(NOON + timedelta(minutes=1))
    assert await purge_expired(storage, 30, clock) == 0
    now = NOON + timedelta(hours=1)
    assert await purge_expired(storage, 30, clock) == 1
    assert await storage.marks.trusted_time() == now
    now = NOON + timedelta(days=40)
    assert await purge_expired(storage, 30, clock) == 0, "perhaps the machine was suspended"
    discord.append(now)
    assert await purge_expired(storage, 30, clock) == 2, "also what came from the future"


async def test_without_an_earlier_run_the_newest_row_tells_the_time(storage: Storage) -> None:
    assert await last_known_time(storage) is None
    await storage.messages.add(said(1, "keep me", at=NOON))
    assert await last_known_time(storage) == NOON
    clock = GuardedClock(lambda: NOON + timedelta(days=400), last=await last_known_time(storage))
    assert await purge_expired(storage, 30, clock) == 0


class Days:
    """Waits as a test lets it: `pauses` are those that were asked for, the last one never ends."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pauses: list[float] = []
        self.over = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) >= self.count:
            self.over.set()
            await asyncio.Event().wait()


async def lived(days: Days, chore: asyncio.Task[None]) -> None:
    await days.over.wait()
    chore.cancel()
    await asyncio.gather(chore, return_exceptions=True)


async def test_a_chore_is_done_at_once_and_every_day() -> None:
    done: list[int] = []

    async def chore() -> None:
        done.append(len(done))

    days = Days(3)
    await lived(days, asyncio.create_task(run_periodically(chore, DAY_S, "a chore", days.wait)))
    assert done == [0, 1, 2]
    assert days.pauses == [DAY_S] * 3


async def test_a_chore_that_fails_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[Exception] = [StoreError("The disk is full."), ValueError("odd")]

    async def chore() -> None:
        if errors:
            raise errors.pop(0)

    days = Days(3)
    await lived(days, asyncio.create_task(run_periodically(chore, DAY_S, "a chore", days.wait)))
    assert days.pauses == [TASK_RETRY_S, TASK_RETRY_S, DAY_S]
    assert "a chore failed" in caplog.text
    assert "The disk is full." in caplog.text

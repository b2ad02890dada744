"""Retraining by itself: when the nights are, and that each is decided once, by a clock that is
handed in."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.chat.model_router import ModelRouter, Trial
from bot.learning.retraining import Retrains
from bot.learning.schedule import (
    GRACE,
    NO_ADMINISTRATOR,
    ON_TRIAL,
    STOPPED,
    TOO_LATE,
    UNEXPECTED,
    NightlyRetrains,
    latest_run,
    next_run,
)
from bot.server.rules import Bounds, ServerRules
from core.records import JobState, NewExample, TrainingJob
from core.server_settings import NewLessons, Nightly
from data.dataset.snapshot import pair_digest
from data.storage.storage import Storage, open_storage
from model.registry import EMBEDDED_FOLDER
from training.checkpoints import LEARNED_FILE, Manifest, seal
from training.jobs.manager import TrainingManager

SERVER, ADA, ROOM = 7, 11, 70
TOKYO, BERLIN = "Asia/Tokyo", "Europe/Berlin"
FOUR_IN_TOKYO = datetime(2026, 3, 9, 19, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
zones = st.sampled_from(sorted(available_timezones()))
moments = st.floats(0, 2.1e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


# --- when the nights are -------------------------------------------------------------------------


def exists(day: date, hour: int, zone: ZoneInfo) -> bool:
    """Whether the clock of the zone comes to that hour on that day."""
    wanted = datetime.combine(day, time(hour), zone)
    return wanted.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wanted.replace(
        tzinfo=None
    )


@given(moments, st.integers(0, 23), zones)
def test_the_next_night_is_at_that_hour_or_after_one_that_is_left_out(
    now: datetime, hour: int, zone_name: str
) -> None:
    zone = ZoneInfo(zone_name)
    found = next_run(now, hour, zone)
    assert now < found <= now + timedelta(hours=49)
    local = found.astimezone(zone)
    if local.time() != time(hour):
        days = (local.date(), local.date() - DAY)
        assert not all(exists(day, hour, zone) for day in days)
    assert latest_run(found, hour, zone) == found
    assert latest_run(found - timedelta(microseconds=1), hour, zone) <= now, "none is passed over"


@pytest.mark.parametrize(
    ("zone", "hour", "now", "expected"),
    [
        (TOKYO, 4, "2026-03-09T18:59:59+00:00", "2026-03-09T19:00:00+00:00"),
        (TOKYO, 4, "2026-03-09T19:00:00+00:00", "2026-03-10T19:00:00+00:00"),
        # 02:00 is left out on 29 March, and comes twice on 25 October: once, then
        (BERLIN, 2, "2026-03-28T12:00:00+00:00", "2026-03-29T01:00:00+00:00"),
        (BERLIN, 2, "2026-10-24T12:00:00+00:00", "2026-10-25T00:00:00+00:00"),
        (BERLIN, 2, "2026-10-25T00:30:00+00:00", "2026-10-26T01:00:00+00:00"),
        # midnight is left out
        ("America/Santiago", 0, "2025-09-06T12:00:00+00:00", "2025-09-07T04:00:00+00:00"),
        # half an hour is
        ("Australia/Lord_Howe", 2, "2026-10-03T12:00:00+00:00", "2026-10-03T15:30:00+00:00"),
        # a whole day is
        ("Pacific/Apia", 4, "2011-12-29T15:00:00+00:00", "2011-12-30T14:00:00+00:00"),
    ],
)
def test_hours_that_are_left_out_or_come_twice(
    zone: str, hour: int, now: str, expected: str
) -> None:
    found = next_run(datetime.fromisoformat(now), hour, ZoneInfo(zone))
    assert found == datetime.fromisoformat(expected)


# --- what a night decides ------------------------------------------------------------------------


class Nights:
    """The schedule of one server that says Asia/Tokyo, and what came of it. `now`: its clock;
    `administrators`: those of the server, or None while Discord is silent."""

    def __init__(self, storage: Storage, models: ModelRouter, home: Path) -> None:
        self.storage = storage
        self.home = home
        self.now: datetime | None = FOUR_IN_TOKYO - HOUR
        self.administrators: set[int] | None = {ADA}
        self.told: list[tuple[int, int, str]] = []
        self.models = models
        self.training = TrainingManager(
            storage,
            home / "jobs",
            home / "checkpoints",
            promote=self._no_one,
            on_update=self._no_one,
            apply_retention=lambda _: None,
        )  # never entered, so no job runs
        self.restart()

    async def _no_one(self, *_: object) -> None:
        pass

    def restart(self) -> None:
        """What is in memory is gone."""
        self.rules = ServerRules(self.storage.server_settings, Bounds())
        self.nightly = NightlyRetrains(
            self.storage.schedules,
            self.rules,
            Retrains(self.storage.examples, self.storage.jobs, self.models, self.training),
            self.storage.audit,
            clock=lambda: self.now,
            language_of=lambda _: "en",
            is_administrator=self._is_administrator,
            tell=self._tell,
        )

    async def _is_administrator(self, _: int, member: int) -> bool | None:
        return None if self.administrators is None else member in self.administrators

    async def _tell(self, scope: int, channel_id: int, text: str) -> None:
        self.told.append((scope, channel_id, text))

    async def choose(self, name: str, value: Any, who: int = ADA) -> None:
        await self.nightly.choose(SERVER, who, ROOM)
        await self.rules.choose(SERVER, name, value)

    async def teach(self, *questions: str) -> None:
        for one in questions:
            new = NewExample(SERVER, one, f"{one} is answered so.", ADA, "teach")
            await self.storage.examples.add(new)

    async def at(self, now: datetime | None) -> None:
        """The clock says so, and is looked at."""
        self.now = now
        await self.rules.load()
        await self.nightly.run_due()

    async def jobs(self) -> list[TrainingJob]:
        return await self.storage.jobs.all(SERVER)

    async def end(self, state: JobState, *learned: str) -> None:
        """The open job ends, and leaves a checkpoint if it learned anything."""
        [job] = await self.storage.jobs.unfinished(SERVER)
        await self.storage.jobs.set_state(job.id, state)
        if learned:
            kept = await self.storage.examples.trainable(SERVER)
            self._leave_checkpoint(f"tiny-{job.id}", [one for one in kept if one.user in learned])

    def _leave_checkpoint(self, name: str, learned: list[Any]) -> None:
        folder = self.home / "checkpoints" / str(SERVER) / name
        folder.mkdir(parents=True)
        pairs = [pair_digest(one.user, one.bot) for one in learned]
        (folder / LEARNED_FILE).write_text(json.dumps({"pairs": pairs}))
        made = datetime.now(UTC).isoformat()
        manifest = Manifest(
            name=name,
            base=str(EMBEDDED_FOLDER),
            created_at=made,
            dataset_sha256="",
            parameters=1,
            settings={},
            scores={},
        )
        seal(folder, manifest)

    async def skipped(self) -> str | None:
        schedule = await self.storage.schedules.get(SERVER)
        assert schedule is not None
        return schedule.skipped


@pytest.fixture
async def nights(storage: Storage, models: ModelRouter, tmp_path: Path) -> Nights:
    nights = Nights(storage, models, tmp_path)
    await nights.choose("time_zone", TOKYO)
    await nights.choose("new_lessons", NewLessons.ONE)
    await nights.choose("nightly", Nightly.AT_04)
    return nights


async def test_a_night_submits_one_job_for_whoever_chose_it(nights: Nights) -> None:
    await nights.teach("Who?")
    await nights.at(FOUR_IN_TOKYO - timedelta(seconds=1))
    assert await nights.jobs() == []
    for minutes in (0, 1, 60):
        await nights.at(FOUR_IN_TOKYO + timedelta(minutes=minutes))
    [job] = await nights.jobs()
    assert (job.requested_by, job.channel_id, job.state) == (ADA, ROOM, JobState.QUEUED)
    assert await nights.skipped() is None
    assert nights.told == []
    [entry] = await nights.storage.audit.entries(SERVER, 9)
    assert (entry.actor_id, entry.action) == (ADA, "scheduled retrain start")


async def test_a_night_is_decided_once_whatever_stops_the_bot(nights: Nights) -> None:
    await nights.teach("Who?")
    await asyncio.gather(*(nights.at(FOUR_IN_TOKYO) for _ in range(3)))
    nights.restart()
    await nights.at(FOUR_IN_TOKYO + HOUR)
    assert len(await nights.jobs()) == 1
    await nights.end(JobState.CANCELLED)
    nights.restart()
    await nights.at(FOUR_IN_TOKYO + 2 * HOUR)
    assert len(await nights.jobs()) == 1, "not again in the same night"
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert len(await nights.jobs()) == 2, "what it did not learn is still new"


async def test_a_bot_that_is_killed_while_it_begins_does_not_begin_again(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    await nights.teach("Who?")

    async def killed(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(nights.training, "submit", killed)
        with pytest.raises(asyncio.CancelledError):
            await nights.at(FOUR_IN_TOKYO)
    nights.restart()
    await nights.at(FOUR_IN_TOKYO + HOUR)
    assert (await nights.jobs(), await nights.skipped()) == ([], STOPPED)
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert len(await nights.jobs()) == 1


async def test_a_bot_that_comes_back_in_the_same_night_runs_it_and_later_skips_it(
    nights: Nights,
) -> None:
    await nights.teach("Who?")
    await nights.at(FOUR_IN_TOKYO + GRACE)
    await nights.end(JobState.CANCELLED)
    nights.restart()
    await nights.at(FOUR_IN_TOKYO + DAY + GRACE + timedelta(seconds=1))
    assert len(await nights.jobs()) == 1
    assert await nights.skipped() == TOO_LATE
    assert nights.told == [], "nobody wants to read that at breakfast"


async def test_nothing_is_decided_while_discord_or_the_clock_is_silent(nights: Nights) -> None:
    await nights.teach("Who?")
    nights.administrators = None
    await nights.at(FOUR_IN_TOKYO)
    nights.administrators = {ADA}
    await nights.at(None)
    assert await nights.jobs() == []
    await nights.at(FOUR_IN_TOKYO + HOUR)
    assert len(await nights.jobs()) == 1


async def test_a_clock_that_jumps_never_makes_two_of_one_night(nights: Nights) -> None:
    await nights.teach("Who?")
    await nights.at(FOUR_IN_TOKYO + 2 * HOUR)  # it jumped over the hour
    await nights.end(JobState.CANCELLED)
    for jump in (-3 * HOUR, -timedelta(minutes=1), timedelta(0), HOUR):
        await nights.at(FOUR_IN_TOKYO + jump)
    assert len(await nights.jobs()) == 1
    await nights.at(FOUR_IN_TOKYO + 300 * DAY)  # and then a year ahead
    assert len(await nights.jobs()) == 2
    await nights.end(JobState.CANCELLED)
    await nights.at(FOUR_IN_TOKYO + 5 * HOUR)
    assert len(await nights.jobs()) == 2
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert len(await nights.jobs()) == 3, "the next night is no year away"


async def test_another_hour_or_zone_makes_no_second_night(nights: Nights) -> None:
    await nights.teach("Who?")
    await nights.at(FOUR_IN_TOKYO)
    await nights.end(JobState.CANCELLED)
    for hour, promised in ((Nightly.AT_16, 12), (Nightly.AT_05, 25)):
        await nights.choose("nightly", hour)
        outlook = await nights.nightly.outlook(SERVER)
        assert outlook.next == FOUR_IN_TOKYO + promised * HOUR, "the panel promises no other"
    await nights.at(FOUR_IN_TOKYO + HOUR)
    await nights.choose("time_zone", "UTC")
    await nights.choose("nightly", Nightly.AT_21)
    await nights.at(FOUR_IN_TOKYO + 2 * HOUR)
    assert len(await nights.jobs()) == 1
    await nights.at(FOUR_IN_TOKYO + 26 * HOUR)
    assert len(await nights.jobs()) == 2


async def test_whoever_switches_it_on_after_the_hour_waits_for_the_next_night(
    nights: Nights,
) -> None:
    await nights.teach("Who?")
    nights.now = FOUR_IN_TOKYO + HOUR
    await nights.choose("nightly", Nightly.AT_04)
    await nights.at(nights.now)
    assert await nights.jobs() == []
    outlook = await nights.nightly.outlook(SERVER)
    assert (outlook.next, outlook.zone) == (FOUR_IN_TOKYO + DAY, TOKYO)
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert len(await nights.jobs()) == 1


async def test_too_few_lessons_are_no_news(nights: Nights) -> None:
    await nights.choose("new_lessons", NewLessons.FIVE)
    await nights.at(FOUR_IN_TOKYO)
    assert "nothing to learn from yet" in str(await nights.skipped())
    await nights.teach("Who?", "What?")
    await nights.at(FOUR_IN_TOKYO + DAY)
    why = "2 new lessons since the last training, and it takes 5."
    assert await nights.skipped() == why
    assert (await nights.jobs(), nights.told) == ([], [])
    await nights.teach("Where?", "When?", "Why?")
    await nights.at(FOUR_IN_TOKYO + 2 * DAY)
    assert len(await nights.jobs()) == 1


@pytest.mark.parametrize("state", [JobState.PROMOTED, JobState.REJECTED])
async def test_lessons_are_new_until_a_checkpoint_has_them(nights: Nights, state: JobState) -> None:
    await nights.teach("Who?", "What?")
    await nights.at(FOUR_IN_TOKYO)
    await nights.end(state, "Who?", "What?")
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert len(await nights.jobs()) == 1
    assert await nights.skipped() == "0 new lessons since the last training, and it takes 1."
    await nights.teach("Where?")
    await nights.at(FOUR_IN_TOKYO + 2 * DAY)
    assert len(await nights.jobs()) == 2


async def test_after_a_failure_it_waits_for_other_lessons(nights: Nights) -> None:
    await nights.teach("Who?")
    await nights.at(FOUR_IN_TOKYO)
    await nights.end(JobState.FAILED)
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert len(await nights.jobs()) == 1, "it would fail every night"
    await nights.teach("What?")
    await nights.at(FOUR_IN_TOKYO + 2 * DAY)
    assert len(await nights.jobs()) == 2


async def test_the_same_reason_is_told_once_in_a_row(nights: Nights) -> None:
    await nights.teach("Who?")
    await nights.at(FOUR_IN_TOKYO)  # this job is never worked on
    said = "The scheduled retrain was skipped. A training job is under way in this server already."
    for day in (1, 2, 3):
        await nights.at(FOUR_IN_TOKYO + day * DAY)
        assert nights.told == [(SERVER, ROOM, said)]
    await nights.end(JobState.CANCELLED)
    await nights.at(FOUR_IN_TOKYO + 4 * DAY)
    await nights.at(FOUR_IN_TOKYO + 5 * DAY)
    assert [text for *_, text in nights.told] == [said, said]


async def test_what_fails_unexpectedly_is_told_without_its_details(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    await nights.teach("Who?")

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("cheese")

    monkeypatch.setattr(nights.training, "preview", broken)
    await nights.at(FOUR_IN_TOKYO)
    assert nights.told == [(SERVER, ROOM, f"The scheduled retrain was skipped. {UNEXPECTED}")]


async def test_it_is_switched_off_where_whoever_chose_it_lost_the_rank(nights: Nights) -> None:
    await nights.teach("Who?")
    nights.administrators = set()
    await nights.at(FOUR_IN_TOKYO)
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert await nights.jobs() == []
    assert nights.told == [(SERVER, ROOM, f"I no longer retrain by myself. {NO_ADMINISTRATOR}")]
    assert nights.rules.of(SERVER).nightly is Nightly.OFF
    assert (await nights.nightly.outlook(SERVER)).skipped == NO_ADMINISTRATOR
    [entry] = await nights.storage.audit.entries(SERVER, 9)
    assert (entry.actor_id, entry.action) == (0, "scheduled retrain off")


async def test_whoever_chooses_it_anew_in_that_moment_keeps_it_on(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def chosen_meanwhile(*_: int) -> bool:
        await nights.choose("nightly", Nightly.AT_05, who=ADA + 1)
        return False

    monkeypatch.setattr(nights.nightly, "_is_administrator", chosen_meanwhile)
    await nights.at(FOUR_IN_TOKYO)
    assert nights.rules.of(SERVER).nightly is Nightly.AT_05
    assert nights.told == []


async def test_a_night_leaves_a_trial_alone(nights: Nights) -> None:
    """Else each would end the trial of the one before, and no model would come into service."""
    await nights.teach("Who?")
    nights.models.set_trial(SERVER, Trial("tiny-new", 50))
    await nights.at(FOUR_IN_TOKYO)
    assert (await nights.jobs(), await nights.skipped(), nights.told) == ([], ON_TRIAL, [])
    nights.models.set_trial(SERVER, None)
    await nights.at(FOUR_IN_TOKYO + DAY)
    assert len(await nights.jobs()) == 1


async def test_a_forgotten_administrator_is_none(path: Path) -> None:
    async with open_storage(path) as storage:
        await storage.schedules.choose(SERVER, ADA, ROOM, FOUR_IN_TOKYO)
        await storage.erasures.anonymize(ADA)
        [schedule] = await storage.schedules.all()
        assert schedule.chosen_by == 0

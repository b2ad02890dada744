"""Retraining by itself: when a server's next night is, and what is decided in it.

Knows clocks, the stored schedules and `Retrains`. Does not know Discord: callbacks ask it who is an
administrator, and post in a channel.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from bot.learning.retraining import Overrides, Retrains
from bot.server.rules import ServerRules
from bot.server.time_zones import zone_name, zone_of
from core.errors import StoreError
from core.server_settings import Nightly, Schedule
from data.storage.tables.audit import AuditLog
from data.storage.tables.server_settings import Schedules
from i18n.phrase import Phrase, join_phrases, message_of, phrase, phrases
from model.errors import ModelError
from training.errors import EmptyDataset, TrainingError

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 60.0
"""Seconds between two looks at the clock."""
GRACE = timedelta(hours=3)
"""How late a night may begin: the bot was off, or the clock was set forward."""
LEAST_PAUSE = timedelta(hours=12)
"""Between two nights, whatever happens to clocks, hours and time zones meanwhile."""
NOBODY = 0
"""Who did what the bot did by itself, in the audit."""

TOO_LATE = phrase(
    "At that hour and in the three hours after it, I was off, could not reach Discord, or could "
    "not be sure of the time."
)
STOPPED = phrase("I was stopped when I was about to begin.")
ON_TRIAL = phrase("A new model is still on trial.")
NO_ADMINISTRATOR = phrase(
    "Whoever chose the schedule is no administrator here any more: another one can switch it on "
    "again in `/settings open`."
)
UNEXPECTED = phrase("Something went wrong on my side. The operator can read more in the log.")

IsAdministrator = Callable[[int, int], Awaitable[bool | None]]
"""Whether a member is one in a server; None: Discord cannot say now."""
Tell = Callable[[int, int, Phrase], Awaitable[None]]
"""Post a sentence in a server's channel. Never raises."""


def next_run(now: datetime, hour: int, zone: tzinfo) -> datetime:
    """When that hour begins next on the clock of the zone, in UTC; see `_nights`."""
    return min(one for one in _nights(now, hour, zone) if one > now)


def latest_run(now: datetime, hour: int, zone: tzinfo) -> datetime:
    """When that hour began last."""
    return max(one for one in _nights(now, hour, zone) if one <= now)


def _nights(now: datetime, hour: int, zone: tzinfo) -> set[datetime]:
    """The beginnings of that hour around a moment, one for each day.

    As in iCalendar (RFC 5545, section 3.3.5): of an hour that comes twice, the first one; an hour
    that the clock leaves out is as much later as the clock is set forward.
    """
    today = now.astimezone(zone).date()
    days = (today + timedelta(days=number) for number in range(-2, 3))  # a zone may skip a day
    return {datetime.combine(day, time(hour), zone).astimezone(UTC) for day in days}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What people are told of a server's schedule: when it comes `next` (None: it is off), by which
    clock, where it is reported, and why it was skipped the last time, if it was."""

    next: datetime | None
    zone: str
    channel_id: int | None = None
    skipped: str | None = None


class NightlyRetrains:
    """Starts the retrains that servers have scheduled.

    Each night is settled in the database before its job is submitted, so none is decided twice,
    whatever stops the bot meanwhile. `clock` gives the time in UTC, or None while it is
    implausible: then nothing is decided.
    """

    def __init__(
        self,
        schedules: Schedules,
        rules: ServerRules,
        retrains: Retrains,
        audit: AuditLog,
        *,
        clock: Callable[[], datetime | None],
        language_of: Callable[[int], str],
        is_administrator: IsAdministrator,
        tell: Tell,
    ) -> None:
        self._schedules = schedules
        self._rules = rules
        self._retrains = retrains
        self._audit = audit
        self._clock = clock
        self._language_of = language_of
        self._is_administrator = is_administrator
        self._tell = tell

    # --- the schedule of a server ----------------------------------------------------------------

    async def choose(self, scope: int, chosen_by: int, channel_id: int) -> None:
        """Remember who chooses the schedule, and where; call it before the choice is stored. Only
        nights that begin later count. Raises StoreError."""
        await self._schedules.choose(scope, chosen_by, channel_id, self._now())

    async def forget(self, scope: int) -> None:
        """Forget the schedule of a server. Raises StoreError."""
        await self._schedules.remove(scope)

    async def outlook(self, scope: int) -> Outlook:
        """What to tell of a server's schedule."""
        schedule = await self._schedules.get(scope)
        hour, zone = self._rules.of(scope).nightly.hour, self._zone(scope)
        after = self._now()
        if schedule is not None and schedule.last_night is not None:  # see `_due`
            after = max(after, schedule.last_night + LEAST_PAUSE - timedelta(microseconds=1))
        begins = None if hour is None else next_run(after, hour, zone)
        if schedule is None:
            return Outlook(begins, zone_name(zone))
        return Outlook(begins, zone_name(zone), schedule.channel_id, schedule.skipped)

    def _now(self) -> datetime:
        return self._clock() or datetime.now(UTC)

    def _zone(self, scope: int) -> tzinfo:
        return zone_of(self._rules.of(scope).time_zone, self._language_of(scope))

    # --- a night ---------------------------------------------------------------------------------

    async def run_due(self) -> None:
        """Decide about all nights that have begun. Raises StoreError: the rest is decided at the
        next call."""
        now, wanted = self._clock(), set(self._rules.at_night())
        if now is None or not wanted:
            return
        await self._schedules.correct_future(now)
        for schedule in await self._schedules.all():
            night = self._due(schedule, now) if schedule.scope in wanted else None
            if night is not None:
                await self._decide(schedule, night, now)

    def _due(self, schedule: Schedule, now: datetime) -> datetime | None:
        """The night that is to be decided about, if there is one."""
        hour = self._rules.of(schedule.scope).nightly.hour
        if hour is None:  # switched off a moment ago
            return None
        night = latest_run(now, hour, self._zone(schedule.scope))
        last = schedule.last_night
        is_new = night > schedule.since and (last is None or night - last >= LEAST_PAUSE)
        return night if is_new else None

    async def _decide(self, schedule: Schedule, night: datetime, now: datetime) -> None:
        if now - night > GRACE:
            await self._schedules.settle(schedule, night, TOO_LATE)
            return
        may = await self._is_administrator(schedule.scope, schedule.chosen_by)
        if may is None:
            log.info("the server %d cannot be asked who is an administrator", schedule.scope)
        elif not may:
            await self._switch_off(schedule, night)
        elif await self._schedules.settle(schedule, night, STOPPED):
            await self._retrain(schedule)

    async def _retrain(self, schedule: Schedule) -> None:
        """Submit the job of a night that is settled; people are told a failure, but not the same
        one twice in a row."""
        failure: str | None = None
        try:
            why = await self._start(schedule)
        except (TrainingError, ModelError, StoreError) as e:
            why = failure = message_of(e)
        except Exception:  # one server's failure must not keep the others from their nights
            log.exception("the scheduled retrain of %d failed", schedule.scope)
            why = failure = UNEXPECTED
        await self._schedules.explain(schedule.scope, why)
        if failure is not None and failure != schedule.skipped:
            text = phrase("The scheduled retrain was skipped. {why}", why=failure)
            await self._tell(schedule.scope, schedule.channel_id, text)

    async def _start(self, schedule: Schedule) -> str | None:
        """Submit the job; if too little was taught, or the last one's model is on trial, say so
        instead: a new trial each night would end the one before, and none would ever be over."""
        scope, language = schedule.scope, self._language_of(schedule.scope)
        if self._retrains.is_on_trial(scope):
            return ON_TRIAL
        try:
            plan = await self._retrains.plan(scope, None, Overrides(), language=language)
        except EmptyDataset as e:
            return message_of(e)
        count, least = await self._retrains.count_new(plan), self._rules.of(scope).new_lessons
        if count < least:
            return _too_few(count, least)
        job = await self._retrains.start(
            plan, requested_by=schedule.chosen_by, channel_id=schedule.channel_id
        )
        what = phrase("job {job} from {base}", job=job.id, base=plan.base.name)
        await self._record(scope, schedule.chosen_by, phrase("scheduled retrain start"), what)
        return None

    async def _switch_off(self, schedule: Schedule, night: datetime) -> None:
        if not await self._schedules.settle(schedule, night, NO_ADMINISTRATOR):
            return  # another administrator has just chosen it
        await self._rules.choose(schedule.scope, "nightly", Nightly.OFF)
        await self._record(schedule.scope, NOBODY, phrase("scheduled retrain off"))
        text = join_phrases([phrase("I no longer retrain by myself."), NO_ADMINISTRATOR])
        await self._tell(schedule.scope, schedule.channel_id, text)

    async def _record(self, scope: int, actor_id: int, action: str, what: str = "") -> None:
        try:
            await self._audit.record(scope, actor_id, action, what)
        except StoreError as e:
            log.error("not in the audit log of %d: %s %s: %s", scope, action, what, e)


def _too_few(count: int, least: int) -> Phrase:
    return phrases(
        "{count} new lesson since the last training, and it takes {least}.",
        "{count} new lessons since the last training, and it takes {least}.",
        count,
        least=least,
    )

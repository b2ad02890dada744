"""The timeline of a server: what was taught on which day and by whom, and its trainings between.

Managers see everybody's lessons; everybody else sees their own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby

from aiohttp import web

from bot.discord_ui.embeds.style import author_text, source_text
from bot.discord_ui.permissions import Rank
from bot.web.access import Visitor
from bot.web.charts import totals_chart
from bot.web.site import Site, answer, home_of, number_in, page_for, visit_of
from bot.web.words import Words
from core.records import Example, ReviewStatus, TaughtGroup, TrainingJob
from core.texts import one_line
from data.storage.tables.growth import NEWEST
from i18n.phrase import phrases
from i18n.reader import say

MAX_DAYS, MAX_GROUPS, MAX_OF_GROUP = 5, 8, 3
"""Days on a page, entries of each, and lessons shown of each entry."""
MAX_OWN = 30
"""Lessons on a page of a member's own."""
MAX_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Lesson:
    """A pair as it is shown; the status is said where it is not approved."""

    user: str
    bot: str
    status: ReviewStatus | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What one member taught on a day."""

    headline: str
    lessons: Sequence[Lesson]
    more: str = ""
    link: str = ""


@dataclass(slots=True)
class Day:
    """A day's lessons and trainings; `more` lessons are not shown."""

    when: date
    more: int = 0
    entries: list[Entry] = field(default_factory=list)
    trainings: list[tuple[TrainingJob, str]] = field(default_factory=list)


async def timeline(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    if visitor.is_manager:
        return await _of_all(request, visitor)
    return await _of_one(request, visitor)


async def _of_all(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    site, scope, words = visit_of(request).site, visitor.scope, Words()
    summary = await site.growth.summary(scope)
    span = _span([day for day, _ in summary.totals], request.query)
    groups = {day: await site.storage.growth.on_day(scope, day) for day in span.days}
    jobs = await site.storage.jobs.all(scope)
    return answer(
        request,
        "timeline.html",
        title=words.timeline,
        visitor=visitor,
        section="",
        chart=totals_chart(summary.totals, words.what_was_taught),
        total=sum(summary.statuses.values()),
        waiting=summary.statuses.get(ReviewStatus.WAITING, 0),
        trainings=len(jobs),
        serving=(await site.models.active(scope)).name,
        days=_with_trainings(await _days(site, visitor, groups), jobs, span),
        newer=span.newer,
        older=span.older,
    )


@dataclass(frozen=True, slots=True)
class Span:
    """The days of a page, and the days at which the pages beside it begin."""

    days: Sequence[date]
    newer: date | None
    older: date | None


def _span(days: Sequence[date], query: Mapping[str, str]) -> Span:
    """The page that the query asks for: the days up to `until`; `days` with the first one first."""
    end = bisect_right(days, _date(query.get("until", "")))
    start = max(0, end - MAX_DAYS)
    newer = days[min(end + MAX_DAYS, len(days)) - 1] if end < len(days) else None
    return Span(days[start:end], newer, days[start - 1] if start else None)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return date.max


async def _days(
    site: Site, visitor: Visitor, groups: Mapping[date, Sequence[TaughtGroup]]
) -> list[Day]:
    """The days of some groups, each with the first of them."""
    days = [
        Day(when, more=sum(one.count for one in several[MAX_GROUPS:]))
        for when, several in groups.items()
    ]
    shown = [one for several in groups.values() for one in several[:MAX_GROUPS]]
    names = await site.members.names(visitor.guild, (one.author_id for one in shown))
    lessons = await site.storage.growth.newest_of(visitor.scope, shown, MAX_OF_GROUP)
    entries = {day.when: day.entries for day in days}
    for group, newest in zip(shown, lessons, strict=True):
        author = author_text(group.author_id, names)
        entries[group.day].append(_entry(group, newest, author, home_of(visitor.scope)))
    return days


def _entry(group: TaughtGroup, lessons: Iterable[Example], author: str, home: str) -> Entry:
    count = phrases(
        "{author} taught {count:,} thing ({source})",
        "{author} taught {count:,} things ({source})",
        group.count,
        author=author,
        source=source_text(group.source) or "?",
    )
    link = f"{home}/data?author={group.author_id}&before={group.last_id + 1}"
    return Entry(say(count), [_lesson(one) for one in lessons], Words().all_of_these, link)


def _lesson(example: Example) -> Lesson:
    status = None if example.status is ReviewStatus.APPROVED else example.status
    user = one_line(example.user, MAX_SHOWN_CHARS) or Words().others_words
    return Lesson(user, one_line(example.bot, MAX_SHOWN_CHARS), status)


def _with_trainings(days: Sequence[Day], jobs: Sequence[TrainingJob], span: Span) -> list[Day]:
    """The days of a page with their trainings, the newest first: on the first page also those
    after its days, on the last also those before."""
    every = {one.when: one for one in days}
    first, last = min(every, default=date.max), max(every, default=date.min)
    for job in reversed(jobs):
        when = job.created_at.date()
        if (when <= last or span.newer is None) and (when >= first or span.older is None):
            every.setdefault(when, Day(when)).trainings.append((job, training_title(job)))
    return sorted(every.values(), key=lambda one: one.when, reverse=True)


def training_title(job: TrainingJob) -> str:
    """What a training is called: by the model that it made, else by its number."""
    return say("Training: {name}", name=job.checkpoint or f"#{job.id}")


async def _of_one(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    site, words = visit_of(request).site, Words()
    before = number_in(request, "before", NEWEST)
    growth = site.storage.growth
    found = await growth.taught_by(visitor.scope, visitor.user_id, MAX_OWN + 1, before)
    return answer(
        request,
        "own.html",
        title=words.your_lessons,
        visitor=visitor,
        section="",
        chart=await _own_chart(site, visitor),
        days=[
            (when, [_lesson(one) for one in lessons])
            for when, lessons in groupby(found[:MAX_OWN], key=lambda one: one.created_at.date())
        ],
        older=found[MAX_OWN - 1].id if len(found) > MAX_OWN else None,
    )


async def _own_chart(site: Site, visitor: Visitor) -> object:
    totals = await site.growth.totals_of(visitor.scope, visitor.user_id)
    return totals_chart(totals, Words().your_lessons)


def routes() -> list[web.RouteDef]:
    return [web.get(r"/s/{guild:\d{1,20}}", page_for(Rank.MEMBER, timeline))]

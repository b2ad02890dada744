"""The timeline of a server: what was taught on which day and by whom, and its trainings between.

Managers see everybody's lessons; everybody else sees their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from data.storage.tables.growth import NEWEST
from i18n.phrase import phrases
from i18n.reader import say

MAX_GROUPS, MAX_OF_GROUP, MAX_OWN = 15, 3, 30
"""Groups on a page, lessons shown of each, and lessons on a member's own page."""
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
    """A day's lessons and trainings."""

    when: date
    entries: list[Entry] = field(default_factory=list)
    trainings: list[TrainingJob] = field(default_factory=list)


async def timeline(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    if visitor.is_manager:
        return await _of_all(request, visitor)
    return await _of_one(request, visitor)


async def _of_all(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    site, scope, words = visit_of(request).site, visitor.scope, Words()
    groups, skipped = await site.growth.groups(scope), number_in(request, "after", 0)
    shown = groups[skipped : skipped + MAX_GROUPS]
    jobs = await site.storage.jobs.all(scope)
    names = await site.members.names(visitor.guild, (one.author_id for one in shown))
    days = {one.when: one for one in [Day(when) for when in sorted({one.day for one in shown})]}
    for group in shown:
        lessons = await site.storage.growth.newest_of(scope, group, MAX_OF_GROUP)
        author = author_text(group.author_id, names)
        days[group.day].entries.append(_entry(group, lessons, author, home_of(scope)))
    last = skipped + MAX_GROUPS >= len(groups)
    _add_trainings(days, jobs, newest=skipped == 0, oldest=last)
    statuses = await site.storage.growth.statuses(scope)
    return answer(
        request,
        "timeline.html",
        title=words.timeline,
        visitor=visitor,
        section="",
        chart=totals_chart(await site.growth.totals(scope), words.what_was_taught),
        total=sum(statuses.values()),
        waiting=statuses.get(ReviewStatus.WAITING, 0),
        trainings=len(jobs),
        serving=(await site.models.active(scope)).name,
        days=sorted(days.values(), key=lambda one: one.when, reverse=True),
        newer=max(0, skipped - MAX_GROUPS) if skipped else None,
        older=None if last else skipped + MAX_GROUPS,
    )


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
    user = shorten(example.user) or Words().others_words
    return Lesson(user, shorten(example.bot), status)


def shorten(text: str, most: int = MAX_SHOWN_CHARS) -> str:
    """The text as one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _add_trainings(
    days: dict[date, Day], jobs: Sequence[TrainingJob], *, newest: bool, oldest: bool
) -> None:
    """Put the trainings among the days of a page: on its first also those after them, on its last
    those before."""
    first, last = min(days, default=None), max(days, default=None)
    for job in reversed(jobs):
        when = job.created_at.date()
        late = last is None or when > last
        early = first is not None and when < first
        if (newest or not late) and (oldest or not early):
            days.setdefault(when, Day(when)).trainings.append(job)


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

"""The data set of a server as a table: search, pages, and the review of single examples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from bot.discord_ui.embeds.dataset import people_of
from bot.discord_ui.embeds.style import author_text, source_text
from bot.discord_ui.permissions import Rank
from bot.discord_ui.reviews import review_example
from bot.web.access import Visitor
from bot.web.site import (
    NOT_HERE,
    PageRefused,
    answer,
    home_of,
    is_partial,
    number_in,
    page_for,
    redirect,
    visit_of,
)
from bot.web.words import Words
from core.records import Example, ReviewStatus
from core.texts import one_line
from data.storage.tables.growth import NEWEST, Search
from i18n.phrase import Phrase, phrase
from i18n.reader import say

PAGE_EXAMPLES = 25
MAX_CELL_CHARS, MAX_SEARCH_CHARS = 300, 200
DECISIONS = {"approve": ReviewStatus.APPROVED, "reject": ReviewStatus.REJECTED}
GONE = phrase("Somebody has already removed that example.")


@dataclass(frozen=True, slots=True)
class Shown:
    """An example in the table. `seen` goes with its forms: what was looked at is what is decided
    about. One that does not fit (`cut`) has its forms on a page of its own."""

    example: Example
    user: str
    bot: str
    author: str
    source: str
    seen: str

    @property
    def cut(self) -> bool:
        return self.user.endswith("…") or self.bot.endswith("…")


def seen_mark(example: Example) -> str:
    """Changes with the words and the status of an example."""
    text = "\0".join((example.status, example.user, example.bot))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def shown(example: Example, names: Mapping[int, str], *, whole: bool = False) -> Shown:
    user, bot = example.user, example.bot
    if not whole:
        user, bot = one_line(user, MAX_CELL_CHARS), one_line(bot, MAX_CELL_CHARS)
    author = author_text(example.author_id, names)
    return Shown(example, user, bot, author, source_text(example.source), seen_mark(example))


def _search(request: web.Request) -> Search:
    status = request.query.get("status", "")
    known = [one for one in ReviewStatus if one == status]
    author = number_in(request, "author", -1)
    text = request.query.get("q", "").strip()[:MAX_SEARCH_CHARS].replace("\0", "")
    return Search(text, known[0] if known else None, None if author < 0 else author)


async def table(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    """A page of the table; for htmx only its rows."""
    site, search = visit_of(request).site, _search(request)
    growth, scope = site.storage.growth, visitor.scope
    after = number_in(request, "after", 0)
    if after:
        found = await growth.newer(scope, search, after, PAGE_EXAMPLES + 1)
        page, more = found.examples[-PAGE_EXAMPLES:], len(found.examples) > PAGE_EXAMPLES
        newer, older = page[:1] if more else [], page[-1:]
    else:
        before = number_in(request, "before", NEWEST)
        found = await growth.older(scope, search, before, PAGE_EXAMPLES + 1)
        page, more = found.examples[:PAGE_EXAMPLES], len(found.examples) > PAGE_EXAMPLES
        newer, older = page[:1] if "before" in request.query else [], page[-1:] if more else []
    names = await site.members.names(visitor.guild, _people(page))
    return answer(
        request,
        "rows.html" if is_partial(request) else "data.html",
        title=Words().data_set,
        visitor=visitor,
        section="/data",
        rows=[shown(one, names) for one in page],
        search=search,
        everything=search == Search() and not request.query.keys() & {"after", "before"},
        statuses=list(ReviewStatus),
        newer=_place(search, "after", newer),
        older=_place(search, "before", older),
        stopped=_page_from(search, "after" if after else "before", found.stopped_at),
    )


def _place(search: Search, side: str, beside: Sequence[Example]) -> str | None:
    """The address of the page beside an example."""
    return _page_from(search, side, beside[0].id if beside else None)


def _page_from(search: Search, side: str, place: int | None) -> str | None:
    """The address of the page from an id on."""
    return f"?{urlencode([*_query(search), (side, place)])}" if place else None


def _query(search: Search) -> list[tuple[str, str]]:
    wanted = {
        "q": search.text,
        "status": search.status or "",
        "author": "" if search.author_id is None else str(search.author_id),
    }
    return [(name, value) for name, value in wanted.items() if value]


def _people(page: list[Example]) -> set[int]:
    return {person for one in page for person in people_of(one)}


async def example(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    """One example with all of its words."""
    found = await _example(request, visitor)
    names = await visit_of(request).site.members.names(visitor.guild, people_of(found))
    return answer(
        request,
        "example.html",
        title=say("Example {number}", number=found.id),
        visitor=visitor,
        section="/data",
        one=shown(found, names, whole=True),
    )


async def _example(request: web.Request, visitor: Visitor) -> Example:
    number = int(request.match_info["example"])
    found = await visit_of(request).site.storage.examples.get(visitor.scope, number)
    if found is None:
        raise PageRefused(404, GONE if visitor.is_manager else NOT_HERE)
    return found


async def review(request: web.Request, visitor: Visitor) -> web.StreamResponse:
    """Decide about an example as it was seen, as `/dataset review` does."""
    form = await request.post()
    decision = DECISIONS.get(str(form.get("decision")))
    if decision is None:
        raise PageRefused(400, NOT_HERE)
    before = await _example(request, visitor)
    storage = visit_of(request).site.storage
    done = str(form.get("seen")) == seen_mark(before) and await review_example(
        storage, visitor.scope, visitor.user_id, before.id, decision, seen=before
    )
    notice = _decided(decision, before.id) if done else _changed(before.id)
    return await _after_review(request, visitor, say(notice))


def _decided(decision: ReviewStatus, number: int) -> Phrase:
    if decision is ReviewStatus.APPROVED:
        return phrase("Example {number} is approved.", number=number)
    return phrase("Example {number} is rejected.", number=number)


def _changed(number: int) -> Phrase:
    return phrase(
        "Somebody else was faster: example {number} is not as you saw it any more. Nothing was "
        "changed; it is shown as it is now.",
        number=number,
    )


async def _after_review(request: web.Request, visitor: Visitor, notice: str) -> web.StreamResponse:
    """The row as it is now, for htmx; else the page that the form was on."""
    visit = visit_of(request)
    if not is_partial(request):
        visit.require_session().notice = notice
        back = str((await request.post()).get("back", ""))
        data = f"{home_of(visitor.scope)}/data"
        return redirect(back if back.startswith(f"{data}?") or back == data else data)
    found = await _example(request, visitor)
    names = await visit.site.members.names(visitor.guild, people_of(found))
    return answer(
        request,
        "row.html",
        title=Words().data_set,
        visitor=visitor,
        section="/data",
        one=shown(found, names),
        said=notice,
    )


def routes() -> list[web.RouteDef]:
    server = r"/s/{guild:\d{1,20}}"
    one = rf"{server}/data/{{example:\d{{1,18}}}}"
    return [
        web.get(f"{server}/data", page_for(Rank.MANAGER, table)),
        web.get(one, page_for(Rank.MANAGER, example)),
        web.post(f"{one}/review", page_for(Rank.MANAGER, review)),
    ]

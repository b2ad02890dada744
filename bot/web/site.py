"""What all pages share: the site's parts, who is asking, and how a page is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from bot.chat.model_router import ModelRouter
from bot.discord_ui.permissions import Rank
from bot.learning.growth import GrowthReader
from bot.web.access import Members, Visitor
from bot.web.oauth import DiscordSignIn
from bot.web.render import Pages, StaticFile
from bot.web.sessions import SESSION_LIFE_S, SIGN_IN_LIFE_S, Session, SignIns
from bot.web.words import WORDS
from data.storage.storage import Storage
from i18n.phrase import Phrase, phrase
from i18n.reader import say

SIGNED_OUT = phrase(
    "You are not signed in here any more: I was restarted, or it was more than twelve hours ago. "
    "Nothing is lost; what you had just sent was not done. Sign in again as it says below."
)
NOT_HERE = phrase("There is no such page, or it is not yours to see.")
MANAGERS_ONLY = phrase(
    "Only managers see that: members with the permission Manage Server. If you were one a moment "
    "ago, somebody has just changed it."
)
HTML = "text/html"


class PageRefused(Exception):
    """The page is not shown; the message is a sentence that says why."""

    def __init__(self, status: int, message: Phrase) -> None:
        super().__init__(message)
        self.status = status


class SignedOut(PageRefused):
    """Nobody is signed in in that browser."""

    def __init__(self) -> None:
        super().__init__(401, SIGNED_OUT)


@dataclass(frozen=True, slots=True)
class HealthFact:
    """A row of the page of the bot's health; `ok` is None where nothing can be wrong."""

    label: str
    text: str
    ok: bool | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """The parts that the pages are made of; `address` is where people find them."""

    storage: Storage
    growth: GrowthReader
    models: ModelRouter
    members: Members
    sign_ins: SignIns
    pages: Pages
    static: Mapping[str, StaticFile]
    address: str
    oauth: DiscordSignIn | None
    health: Callable[[], Awaitable[list[HealthFact]]]
    forced_language: str | None = None

    @property
    def secure(self) -> bool:
        return self.address.startswith("https://")

    @property
    def hosts(self) -> frozenset[str]:
        """The names by which a browser may have found the page."""
        return frozenset({urlsplit(self.address).hostname or ""})

    def cookie(self, name: str) -> str:
        """The name of a cookie. Browsers take one of `__Host-` from this very host only, with
        TLS."""
        return f"__Host-gpt2bot-{name}" if self.secure else f"gpt2bot-{name}"

    def set_cookie(
        self, response: web.StreamResponse, name: str, value: str, life_s: float
    ) -> None:
        response.set_cookie(
            self.cookie(name),
            value,
            max_age=int(life_s),
            path="/",
            httponly=True,
            secure=self.secure,
            samesite="Lax",
        )


@dataclass(frozen=True, slots=True)
class Visit:
    """A request: its browser, and who is signed in there. `browser` is a secret of that browser
    from before anybody signed in; `token` is that of its session."""

    site: Site
    browser: str
    token: str
    session: Session | None
    language: str

    @property
    def form_token(self) -> str:
        return self.site.sign_ins.form_token(self.token if self.session else self.browser)

    def require_session(self) -> Session:
        """Who is signed in.

        Raises:
            SignedOut: nobody is.
        """
        if self.session is None:
            raise SignedOut
        return self.session

    def sign_in(
        self, response: web.StreamResponse, user_id: int, guild_ids: frozenset[int], language: str
    ) -> None:
        """Begin a session in this browser, with a new cookie. What the same member could ask for in
        an older one stays."""
        sign_ins = self.site.sign_ins
        if self.session is not None:
            if self.session.user_id == user_id:
                guild_ids |= self.session.guild_ids
            sign_ins.end(self.session)
        token = sign_ins.begin(user_id, guild_ids, language)
        self.site.set_cookie(response, "session", token, SESSION_LIFE_S)

    def sign_out(self, response: web.StreamResponse) -> None:
        if self.session is not None:
            self.site.sign_ins.end(self.session)
        response.del_cookie(self.site.cookie("session"), path="/", secure=self.site.secure)


SITE = web.AppKey("site", Site)
VISIT = web.RequestKey("visit", Visit)
BROWSER_LIFE_S = SIGN_IN_LIFE_S + 300.0


def visit_of(request: web.Request) -> Visit:
    return request[VISIT]


def is_partial(request: web.Request) -> bool:
    """Whether htmx asks, to change a part of the page."""
    return request.headers.get("HX-Request") == "true"


@dataclass(frozen=True, slots=True)
class Section:
    """A page of a server in the menu; `path` is what follows the server's address."""

    path: str
    word: str
    rank: Rank = Rank.MANAGER


SECTIONS = (
    Section("", "timeline", Rank.MEMBER),
    Section("/trainings", "trainings"),
    Section("/checkpoints", "checkpoints"),
    Section("/data", "data_set"),
)
"""The menu; a section that is added here is a module with its routes, as `bot.web.trainings`."""


def home_of(guild_id: int) -> str:
    return f"/s/{guild_id}"


def redirect(address: str) -> web.Response:
    """Send the browser to another page, which it asks for with GET."""
    return web.Response(status=303, headers={"Location": address})


def answer(
    request: web.Request,
    template: str,
    *,
    title: str,
    visitor: Visitor | None = None,
    section: str | None = None,
    status: int = 200,
    **values: Any,
) -> web.Response:
    """A page with what every page has."""
    visit = visit_of(request)
    session = visit.session
    notice = session.notice if session else ""
    if session:
        session.notice = ""
    text = visit.site.pages.render(
        template,
        title=title,
        visitor=visitor,
        home=home_of(visitor.scope) if visitor else "/",
        menu=[one for one in SECTIONS if visitor and visitor.rank >= one.rank],
        section=section,
        signed_in=session is not None,
        is_operator=session is not None and visit.site.members.is_operator(session.user_id),
        form_token=visit.form_token,
        here=request.path_qs,
        notice=notice,
        **values,
    )
    return web.Response(text=text, content_type=HTML, status=status)


def sign_in_page(
    request: web.Request, status: int = 200, message: str | None = None
) -> web.Response:
    """How to sign in, under a sentence."""
    with_discord = visit_of(request).site.oauth is not None
    return answer(
        request,
        "sign_in.html",
        title=say(WORDS["sign_in"]),
        status=status,
        message=message,
        with_discord=with_discord,
    )


async def admit(request: web.Request, needed: Rank) -> Visitor:
    """Whoever asks for a page of a server, if they may see it now. A form is checked against what
    Discord says this moment.

    Raises:
        SignedOut: nobody is signed in.
        PageRefused: the server is not theirs to see, or their rank there is too low.
        DiscordAway: that cannot be known.
    """
    visit = visit_of(request)
    session, members = visit.require_session(), visit.site.members
    guild_id = int(request.match_info["guild"])
    if guild_id not in session.guild_ids and not members.is_operator(session.user_id):
        raise PageRefused(404, NOT_HERE)
    visitor = await members.visitor(guild_id, session.user_id, anew=request.method == "POST")
    if visitor is None:
        raise PageRefused(404, NOT_HERE)
    if visitor.rank < needed:
        raise PageRefused(403, MANAGERS_ONLY)
    return visitor


Page = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page_for(needed: Rank, page: Page) -> Handler:
    """The handler of a page that only visitors of that rank see."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await page(request, await admit(request, needed))

    return handle


def number_in(request: web.Request, name: str, default: int) -> int:
    """A number of the query; the default where there is none, or something else."""
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else default

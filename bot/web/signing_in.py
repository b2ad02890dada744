"""Signing in and out: with the one-time link of `/growth`, or with a Discord account."""

from __future__ import annotations

import logging

from aiohttp import web

from bot.web.access import DiscordAway
from bot.web.oauth import CALLBACK_PATH, SignInFailed
from bot.web.sessions import LinkState
from bot.web.site import NOT_HERE, PageRefused, answer, home_of, redirect, sign_in_page, visit_of
from bot.web.words import WORDS
from i18n.catalogue import ENGLISH, LANGUAGES
from i18n.phrase import Phrase, phrase
from i18n.reader import language_of_locale, say

log = logging.getLogger(__name__)

LINK_PROBLEMS: dict[LinkState, Phrase] = {
    LinkState.UNKNOWN: phrase(
        "I do not know this link: perhaps I was restarted since. `/growth` in Discord makes a new "
        "one."
    ),
    LinkState.EXPIRED: phrase(
        "This link is too old: it could be used for ten minutes. `/growth` in Discord makes a new "
        "one."
    ),
    LinkState.USED: phrase(
        "This link was used already, and works only once. `/growth` in Discord makes a new one; if "
        "it was not you who used it, that also signs the other one out."
    ),
    LinkState.OTHER_BROWSER: phrase(
        "This link was opened in another browser first, so it works there only. `/growth` in "
        "Discord makes a new one; if it was not you, the other one is of no use any more."
    ),
}
OTHER_SIGN_IN = phrase(
    "This sign-in was not begun in this browser, or took more than ten minutes. Begin again below."
)
DISCORD_REFUSED = phrase(
    "Discord did not confirm who you are, so nobody was signed in. Begin again below."
)
SIGNED_OUT_NOW = phrase("You are signed out.")


async def front(request: web.Request) -> web.StreamResponse:
    """The servers to choose from; of one alone, its page."""
    visit = visit_of(request)
    if visit.session is None:
        return sign_in_page(request)
    members = visit.site.members
    guilds = await members.guilds(visit.session.user_id, visit.session.guild_ids)
    if len(guilds) == 1:
        return redirect(home_of(guilds[0].id))
    servers = [(home_of(one.id), one.name) for one in guilds]
    return answer(request, "servers.html", title=say(WORDS["choose_server"]), servers=servers)


async def open_link(request: web.Request) -> web.StreamResponse:
    """Ask whether it is them; a program that only looks at links thus uses none up."""
    visit = visit_of(request)
    state, link = visit.site.sign_ins.open_link(request.match_info["token"], visit.browser)
    if state is not LinkState.USABLE or link is None:
        if visit.session and link and visit.session.user_id == link.user_id:
            return redirect(home_of(link.guild_id))
        return sign_in_page(request, 410, LINK_PROBLEMS[state])
    visitor = await visit.site.members.visitor(link.guild_id, link.user_id)
    if visitor is None:
        raise PageRefused(404, NOT_HERE)
    names = await visit.site.members.names(visitor.guild, [link.user_id])
    sentence = phrase(
        "This link signs you in as {name}, for the server {server}.",
        name=names.get(link.user_id, str(link.user_id)),
        server=visitor.guild.name,
    )
    return answer(request, "link.html", title=say(WORDS["sign_in"]), sentence=say(sentence))


async def use_link(request: web.Request) -> web.StreamResponse:
    """Sign in with the link, in the language of its member's Discord."""
    visit = visit_of(request)
    state, link = visit.site.sign_ins.use_link(request.match_info["token"], visit.browser)
    if state is not LinkState.USABLE or link is None:
        return sign_in_page(request, 410, LINK_PROBLEMS[state])
    response = redirect(home_of(link.guild_id))
    visit.sign_in(response, link.user_id, link.guild_ids, link.language)
    return response


async def to_discord(request: web.Request) -> web.StreamResponse:
    """Send the browser to Discord, which sends it back."""
    visit = visit_of(request)
    oauth, bot = visit.site.oauth, visit.site.members.bot
    if oauth is None:
        raise PageRefused(404, NOT_HERE)
    if bot.application_id is None:
        raise DiscordAway
    state = visit.site.sign_ins.state(visit.browser)
    return redirect(oauth.authorize_url(bot.application_id, state))


async def from_discord(request: web.Request) -> web.StreamResponse:
    """The browser came back: with a code, if its person agreed."""
    visit = visit_of(request)
    oauth, bot = visit.site.oauth, visit.site.members.bot
    if oauth is None:
        raise PageRefused(404, NOT_HERE)
    if bot.application_id is None:
        raise DiscordAway
    if not visit.site.sign_ins.is_state(request.query.get("state", ""), visit.browser):
        return sign_in_page(request, 403, OTHER_SIGN_IN)
    try:
        account = await oauth.account(bot.application_id, request.query.get("code", ""))
    except SignInFailed as e:
        log.warning("somebody could not sign in with Discord: %s", e)
        return sign_in_page(request, 403, DISCORD_REFUSED)
    ours = frozenset(one.id for one in bot.guilds)
    response = redirect("/")
    language = language_of_locale(account.locale) or ENGLISH
    visit.sign_in(response, account.user_id, account.guild_ids & ours, language)
    return response


async def sign_out(request: web.Request) -> web.StreamResponse:
    visit = visit_of(request)
    response = sign_in_page(request, message=SIGNED_OUT_NOW)
    visit.sign_out(response)
    return response


async def choose_language(request: web.Request) -> web.StreamResponse:
    """Show all pages of this session in another language."""
    form, session = await request.post(), visit_of(request).require_session()
    chosen, back = form.get("language"), str(form.get("back", "/"))
    if chosen in LANGUAGES:
        session.language = str(chosen)
    own = back.startswith("/") and not back.startswith(("//", "/\\"))
    return redirect(back if own else "/")


def routes() -> list[web.RouteDef]:
    return [
        web.get("/", front),
        web.get("/in/{token:[A-Za-z0-9_-]{20,80}}", open_link),
        web.post("/in/{token:[A-Za-z0-9_-]{20,80}}", use_link),
        web.get("/oauth/start", to_discord),
        web.get(CALLBACK_PATH, from_discord),
        web.post("/out", sign_out),
        web.post("/language", choose_language),
    ]

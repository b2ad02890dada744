"""The middleware before every page: who asks, from where, with which form; and what browsers are
told to refuse."""

from __future__ import annotations

import logging
from contextlib import suppress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from bot.discord_ui.errors import UNEXPECTED
from bot.settings import LOCAL_NAMES
from bot.web.access import DiscordAway
from bot.web.sessions import new_token
from bot.web.site import (
    BROWSER_LIFE_S,
    NOT_HERE,
    SITE,
    VISIT,
    PageRefused,
    SignedOut,
    Site,
    Visit,
    answer,
    is_partial,
    sign_in_page,
    visit_of,
)
from bot.web.words import Words
from core.errors import StoreError
from i18n.catalogue import ENGLISH
from i18n.phrase import message_of, phrase
from i18n.reader import language_of_locale, use_language
from training.errors import TrainingError

log = logging.getLogger(__name__)

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""No inline script or style, nothing of another host, and no page of ours inside of another."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
TLS_ONLY = {"Strict-Transport-Security": "max-age=31536000"}
MAX_COOKIE_CHARS = 100
FORM_TOKEN = "csrf"
WRONG_HOST = phrase(
    "This page is not known by that name. Use the address that `/growth` gives you."
)
OLD_FORM = phrase(
    "That form is too old, or was not one of mine. Nothing was done: go back, reload the page, and "
    "do it again."
)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every request with a page, and with all headers."""
    site = request.app[SITE]
    visit = request[VISIT] = _visit(site, request)
    with use_language(visit.language):
        response = await _answer(request, handler)
    _add_headers(site, request, response)
    if visit.browser != request.cookies.get(site.cookie("browser")) and not request.path.startswith(
        "/static/"
    ):
        site.set_cookie(response, "browser", visit.browser, BROWSER_LIFE_S)
    return response


def _visit(site: Site, request: web.Request) -> Visit:
    token = request.cookies.get(site.cookie("session"), "")[:MAX_COOKIE_CHARS]
    browser = request.cookies.get(site.cookie("browser"), "")[:MAX_COOKIE_CHARS]
    session = site.sign_ins.session(token)
    asked = request.headers.get("Accept-Language", "").partition(",")[0].partition(";")[0]
    chosen = session.language if session else language_of_locale(asked[:20])
    language = site.forced_language or chosen or ENGLISH
    return Visit(site, browser or new_token(), token, session, language)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        _check_origin(request)
        if request.method not in ("GET", "HEAD"):
            await _check_form(request)
        return await handler(request)
    except Exception as e:
        return _failure(request, e)


def _failure(request: web.Request, error: Exception) -> web.Response:
    """The page that says why another one is not shown."""
    match error:
        case SignedOut():
            response = sign_in_page(request, error.status, message_of(error))
            if is_partial(request):
                response.headers["HX-Refresh"] = "true"  # the whole page is the way to sign in
            return response
        case PageRefused():
            return refusal(request, error.status, message_of(error))
        case DiscordAway() | StoreError() | TrainingError():
            return refusal(request, 503, message_of(error))
        case web.HTTPException() if error.status < 500:
            return refusal(request, error.status, NOT_HERE)
    log.error("a page could not be shown: %s", request.match_info.handler, exc_info=error)
    return refusal(request, 500, UNEXPECTED)


def refusal(request: web.Request, status: int, sentence: str) -> web.Response:
    """A page, or for htmx a notice, that says why not."""
    response = answer(request, "refused.html", title=Words().title, status=status, message=sentence)
    if is_partial(request):
        response.headers["HX-Reswap"] = "none"
    return response


def _check_origin(request: web.Request) -> None:
    """Refuse what another site sends, or a name that was led here (DNS rebinding)."""
    known = request.app[SITE].hosts
    local = bool(known & LOCAL_NAMES)
    host = _host(request.headers.get("Host", ""))
    if host not in known and not (local and host in LOCAL_NAMES):
        raise PageRefused(403, WRONG_HOST)
    if request.method in ("GET", "HEAD"):
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise PageRefused(403, OLD_FORM)
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise PageRefused(403, OLD_FORM)


def _host(text: str) -> str | None:
    with suppress(ValueError):
        return urlsplit(f"//{text}").hostname
    return None


async def _check_form(request: web.Request) -> None:
    """Refuse a form without the token of this browser. Where a session is gone with a restart, say
    how to come back."""
    visit = visit_of(request)
    try:
        sent = (await request.post()).get(FORM_TOKEN)
    except (ValueError, LookupError) as e:
        raise PageRefused(400, OLD_FORM) from e
    cookie = visit.token if visit.session else visit.browser
    if isinstance(sent, str) and visit.site.sign_ins.is_form_token(sent, cookie):
        return
    if visit.session is None and request.path.startswith("/s/"):
        raise SignedOut
    raise PageRefused(403, OLD_FORM)


def _add_headers(site: Site, request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS | (TLS_ONLY if site.secure else {}))
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    packed = "Content-Encoding" in response.headers
    if isinstance(response, web.Response) and response.body and not packed:
        response.headers["Vary"] = "Accept-Encoding"
        response.enable_compression()

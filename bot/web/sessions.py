"""Who is signed in to the page: one-time links, sessions, and the tokens of forms.

All of it is in memory, and gone with the process. What a browser is given is kept as a SHA-256
only: nobody can sign in with what is kept. Knows neither HTTP nor Discord.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from cachetools import TTLCache

LINK_LIFE_S = 600.0
"""Seconds in which a one-time link can be used."""
REMEMBERED_S = 3600.0
"""Seconds in which a link that is used or too old is told from one that never was."""
SESSION_LIFE_S = 12 * 3600.0
SIGN_IN_LIFE_S = 600.0
"""Seconds that signing in with Discord may take."""
MAX_LINKS, MAX_SESSIONS = 1000, 1000
TOKEN_BYTES = 32


class LinkState(Enum):
    """What can be said of a link."""

    USABLE = auto()
    UNKNOWN = auto()
    EXPIRED = auto()
    USED = auto()
    OTHER_BROWSER = auto()


@dataclass(slots=True)
class Link:
    """A one-time link for a member, to the page of one server; whoever uses it may also ask for the
    other `guild_ids`. `browser` is the one that opened it first; no other one may use it."""

    user_id: int
    guild_id: int
    language: str
    made_at: float
    guild_ids: frozenset[int]
    browser: bytes | None = None
    used: bool = False


@dataclass(slots=True)
class Session:
    """A browser in which somebody is signed in.

    It may ask for `guild_ids` (None: of any server); what it may see there is decided at each
    request. `notice` is shown on the next page.
    """

    user_id: int
    guild_ids: frozenset[int]
    language: str
    key: bytes = b""
    notice: str = ""


def digest(token: str) -> bytes:
    """What is kept of a secret that a browser has."""
    return hashlib.sha256(token.encode()).digest()


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


@dataclass(slots=True)
class SignIns:
    """The links and sessions of this process. `clock` returns seconds."""

    clock: Callable[[], float] = time.monotonic
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(TOKEN_BYTES))
    _links: TTLCache[bytes, Link] = field(init=False)
    _sessions: TTLCache[bytes, Session] = field(init=False)

    def __post_init__(self) -> None:
        self._links = TTLCache(MAX_LINKS, REMEMBERED_S, timer=self.clock)
        self._sessions = TTLCache(MAX_SESSIONS, SESSION_LIFE_S, timer=self.clock)

    # --- one-time links ------------------------------------------------------------------------

    def make_link(self, user_id: int, guild_id: int, language: str) -> str:
        """The token of a new link, which is its member's only way in: older links are void, and who
        is signed in as them is signed out. What those could ask for, this one can too."""
        guild_ids = self.end_all_of(user_id) | {guild_id}
        token = new_token()
        self._links[digest(token)] = Link(user_id, guild_id, language, self.clock(), guild_ids)
        return token

    def open_link(self, token: str, browser: str) -> tuple[LinkState, Link | None]:
        """Look at a link from a browser; the first one to do so is the only one that may use it."""
        link = self._links.get(digest(token))
        if link is None:
            return LinkState.UNKNOWN, None
        if link.used:
            return LinkState.USED, link
        if self.clock() - link.made_at > LINK_LIFE_S:
            return LinkState.EXPIRED, link
        if link.browser is None:
            link.browser = digest(browser)
        if not hmac.compare_digest(link.browser, digest(browser)):
            return LinkState.OTHER_BROWSER, link
        return LinkState.USABLE, link

    def use_link(self, token: str, browser: str) -> tuple[LinkState, Link | None]:
        """Use up a link, unless it is not `USABLE`."""
        state, link = self.open_link(token, browser)
        if state is LinkState.USABLE and link is not None:
            link.used = True
        return state, link

    # --- sessions ------------------------------------------------------------------------------

    def begin(self, user_id: int, guild_ids: frozenset[int], language: str) -> str:
        """Start a session; the token for the browser's cookie."""
        token = new_token()
        key = digest(token)
        self._sessions[key] = Session(user_id, guild_ids, language, key)
        return token

    def session(self, token: str) -> Session | None:
        """The session of a browser, if it is still open."""
        return self._sessions.get(digest(token)) if token else None

    def end(self, session: Session) -> None:
        """Sign one browser out."""
        self._sessions.pop(session.key, None)

    def end_all_of(self, user_id: int) -> frozenset[int]:
        """Sign somebody out everywhere, and void their links; the servers that they could ask
        for."""
        for link in self._links.values():
            if link.user_id == user_id:
                link.used = True
        theirs = [one for one in self._sessions.values() if one.user_id == user_id]
        for session in theirs:
            self.end(session)
        return frozenset().union(*(one.guild_ids for one in theirs))

    # --- forms, and the way to Discord and back --------------------------------------------------

    def form_token(self, cookie: str) -> str:
        """What a form has to send along, so that no other site's form counts; it belongs to a
        cookie of the same browser. Each is different: pages are compressed, and what is the same in
        all of them could be guessed from their lengths."""
        nonce = secrets.token_hex(8)
        return f"{nonce}.{self._signed('form', nonce, cookie)}"

    def is_form_token(self, sent: str, cookie: str) -> bool:
        nonce, _, signature = sent.partition(".")
        return bool(cookie) and _same(signature, self._signed("form", nonce, cookie))

    def state(self, browser: str) -> str:
        """The `state` of a sign-in with Discord, which belongs to that browser for ten minutes."""
        until = f"{self.clock() + SIGN_IN_LIFE_S:.0f}"
        return f"{until}.{self._signed('state', until, browser)}"

    def is_state(self, sent: str, browser: str) -> bool:
        until, _, signature = sent.partition(".")
        wanted = self._signed("state", until, browser)
        if not browser or not _same(signature, wanted):
            return False
        return self.clock() <= float(until)

    def _signed(self, *parts: str) -> str:
        return hmac.new(self._secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())

"""The bot's requests to Discord: counted by kind, and kept within the limit that they all share.

discord.py keeps to the limit of each route, but learns of the shared one only when a request is
refused; and Discord blocks an address after 10,000 refused requests in ten minutes
(discord.com/developers/docs/topics/rate-limits). So what can be left out is left out in time, and
the rest waits for its turn here rather than be refused there.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import aiohttp

from core.metrics import Metrics

GLOBAL_LIMIT_PER_S = 50
"""Requests a second that Discord takes from a bot, not counting responses to interactions."""
PACE_PER_S = 45
"""Requests that are let go within any second: on the way, some catch up with those before them."""
MAX_TYPING_LOAD, MAX_EDITING_LOAD = 0.5, 0.8
"""The shares of the limit up to which requests that can be left out are made."""
BACK_OFF_S = 5.0
"""Seconds without optional requests after Discord refused one."""
KIND_BY_ROUTE = (
    ("POST", r"/channels/\d+/typing", "typing"),
    ("POST", r"/channels/\d+/messages", "send"),
    ("PATCH", r"/channels/\d+/messages/\d+", "edit"),
    ("DELETE", r"/channels/\d+/messages/\d+", "delete"),
    ("GET", r"/channels/\d+/messages.*", "history"),
    (r"\w+", r"/(interactions|webhooks)/.*", "interaction"),
)
REQUEST_KINDS = (*(kind for *_, kind in KIND_BY_ROUTE), "other")


class RestTraffic:
    """Watches and paces the requests of a client that was given its `trace_config`. `clock` and
    `sleep` are in seconds."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._recent: deque[float] = deque()
        self._backing_off_until = 0.0
        metrics.init_request_kinds(REQUEST_KINDS)
        self.trace_config = aiohttp.TraceConfig()
        self.trace_config.on_request_start.append(self._on_start)
        self.trace_config.on_request_end.append(self._on_end)

    def may_type(self) -> bool:
        """Whether there is room for a typing indicator. It goes first, since it says the least."""
        return self._has_room(MAX_TYPING_LOAD)

    def may_edit(self) -> bool:
        """Whether there is room for an edit that shows how far a reply has come."""
        return self._has_room(MAX_EDITING_LOAD)

    def _has_room(self, load: float) -> bool:
        now = self._clock()
        while self._recent and now - self._recent[0] >= 1:
            self._recent.popleft()
        is_within = len(self._recent) < load * GLOBAL_LIMIT_PER_S
        return is_within and now >= self._backing_off_until

    async def _on_start(
        self, _: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestStartParams
    ) -> None:
        kind = _kind(params.method, params.url.path)
        self._metrics.observe_request(kind)
        if kind != "interaction":
            await self._wait_for_turn()

    async def _wait_for_turn(self) -> None:
        """Let PACE_PER_S requests go within a second, in the order in which they came."""
        turn = now = self._clock()
        if len(self._recent) >= PACE_PER_S:
            turn = max(now, self._recent[-PACE_PER_S] + 1)
        self._recent.append(turn)
        if turn > now:
            await self._sleep(turn - now)

    async def _on_end(
        self, _: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        if params.response.status == 429:
            self._metrics.observe_rate_limited(_kind(params.method, params.url.path))
            self._backing_off_until = self._clock() + BACK_OFF_S


def _kind(method: str, path: str) -> str:
    route = re.sub(r"^/api/v\d+", "", path)
    matches = (
        kind
        for verb, pattern, kind in KIND_BY_ROUTE
        if re.fullmatch(verb, method) and re.fullmatch(pattern, route)
    )
    return next(matches, "other")

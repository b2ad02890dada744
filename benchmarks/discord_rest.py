"""Discord's HTTP interface for messages, on a local server: nonces, rate limits, lost answers.

As discord.com/developers/docs says: a bucket for each channel and kind of request, a limit that all
of them share, and one message for each nonce. For the benchmark of the crowd, and for tests.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import discord
from aiohttp import web
from discord.http import Route

TOKEN = "right.token.here"
ME = {"id": "1", "username": "gpt2bot", "discriminator": "0", "avatar": None}
CHANNEL_LIMIT, CHANNEL_WINDOW_S = 5, 5.0
"""Requests of one kind in one channel, and the seconds in which they are counted."""
GLOBAL_LIMIT, GLOBAL_WINDOW_S = 50, 1.0


@dataclass(slots=True)
class Bucket:
    """The limit of one route: its window begins with the first request and ends for all at once.
    Times are in seconds."""

    limit: int
    window_s: float
    remaining: int = 0
    resets_at: float = 0.0

    def wait_s(self, now: float) -> float:
        """Take a place, or return the seconds until there is one."""
        if now >= self.resets_at:
            self.remaining, self.resets_at = self.limit, now + self.window_s
        if not self.remaining:
            return self.resets_at - now
        self.remaining -= 1
        return 0.0


@dataclass(slots=True)
class SharedLimit:
    """The limit that all routes share, in any window. Times are in seconds."""

    limit: int
    window_s: float
    taken: deque[float] = field(default_factory=deque)

    def wait_s(self, now: float) -> float:
        """Take a place, or return the seconds until there is one."""
        while self.taken and now - self.taken[0] >= self.window_s:
            self.taken.popleft()
        if len(self.taken) < self.limit:
            self.taken.append(now)
            return 0.0
        return self.taken[0] + self.window_s - now


@dataclass
class DiscordRest:
    """The server. `faults` are used up, one for each message that is posted: its answer is lost in
    this way; `edit_faults` likewise, one for each edit. Without `limited` there are no rate limits.
    """

    limited: bool = True
    faults: list[str | int] = field(default_factory=list)
    edit_faults: list[str | int] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    _acknowledged: set[str] = field(default_factory=set)
    _nonces: dict[str, int] = field(default_factory=dict)
    _buckets: dict[tuple[str, str], Bucket] = field(
        default_factory=lambda: defaultdict(lambda: Bucket(CHANNEL_LIMIT, CHANNEL_WINDOW_S))
    )
    _all: SharedLimit = field(default_factory=lambda: SharedLimit(GLOBAL_LIMIT, GLOBAL_WINDOW_S))
    _ids: Callable[[], int] = field(default_factory=lambda: itertools.count(1 << 40).__next__)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/users/@me", _answers(ME))
        application = {"id": "4711", "name": "gpt2bot", "icon": None, "description": "", "flags": 0}
        rules = {"bot_public": True, "bot_require_code_grant": False, "verify_key": "", "owner": ME}
        app.router.add_get("/oauth2/applications/@me", _answers(application | rules))
        app.router.add_post("/channels/{channel}/typing", self._limit("typing", self._type))
        app.router.add_post("/channels/{channel}/messages", self._limit("send", self._post))
        one = "/channels/{channel}/messages/{message}"
        app.router.add_patch(one, self._limit("edit", self._edit))
        app.router.add_delete(one, self._limit("delete", self._delete))
        app.router.add_post("/interactions/{id}/{token}/callback", self._acknowledge)
        app.router.add_patch("/webhooks/{app}/{token}/messages/@original", self._answer)
        return app

    def _limit(self, kind: str, handle: Any) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            self.calls[kind] += 1
            bucket = self._buckets[kind, request.match_info["channel"]]
            if self.limited:
                now = time.monotonic()
                if wait_s := self._all.wait_s(now) or bucket.wait_s(now):
                    return self._refuse(wait_s)
            response: web.StreamResponse = await handle(request)
            if self.limited:
                response.headers.update(
                    {
                        "X-RateLimit-Bucket": kind,
                        "X-RateLimit-Limit": str(bucket.limit),
                        "X-RateLimit-Remaining": str(bucket.remaining),
                        "X-RateLimit-Reset-After": f"{bucket.resets_at - time.monotonic():.3f}",
                    }
                )
            return response

        return handler

    def _refuse(self, wait_s: float) -> web.Response:
        self.refused += 1
        body = {"message": "You are being rate limited.", "retry_after": wait_s, "global": False}
        response = _json(body, 429)
        response.headers["Via"] = "1.1 here"
        return response

    async def _type(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        payload = await request.json()
        nonce = payload.get("nonce") if payload.get("enforce_nonce") else None
        number = self._nonces.get(nonce, 0)
        if not number:
            number = self._ids()
            self.messages[number] = _message(number, request.match_info["channel"], payload)
            if nonce:
                self._nonces[nonce] = number
        if not self.faults:
            return _json(self.messages[number])
        return _lose(self.faults.pop(0), request)

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        if self.edit_faults:
            return _lose(self.edit_faults.pop(0), request)
        found = self.messages[int(request.match_info["message"])]
        found |= await request.json()
        return _json(found)

    async def _acknowledge(self, request: web.Request) -> web.StreamResponse:
        self.calls["interaction"] += 1
        if request.match_info["id"] in self._acknowledged:
            body = {"code": 40060, "message": "Interaction has already been acknowledged."}
            return _json(body, 400)
        self._acknowledged.add(request.match_info["id"])
        if self.faults:
            return _lose(self.faults.pop(0), request)
        return _json({"interaction": {"id": request.match_info["id"], "type": 2}})

    async def _answer(self, request: web.Request) -> web.Response:
        number = self._ids()
        self.messages[number] = _message(number, "77", await request.json())
        return _json(self.messages[number])

    async def _delete(self, request: web.Request) -> web.Response:
        del self.messages[int(request.match_info["message"])]
        return web.Response(status=204)


def _lose(fault: str | int, request: web.Request) -> web.StreamResponse:
    """A response that hides that the request succeeded."""
    if fault == "reset":
        assert request.transport is not None
        request.transport.abort()
    if fault == "not json":
        return web.Response(body=b"<html>", content_type="application/json")
    return web.Response(status=fault if isinstance(fault, int) else 500, text="not now")


def _message(number: int, channel: str, payload: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        key: [] for key in ("mentions", "mention_roles", "attachments", "embeds", "reactions")
    }
    flags = {"tts": False, "pinned": False, "mention_everyone": False, "type": 0, "flags": 0}
    return {
        **empty,
        **flags,
        "id": str(number),
        "channel_id": channel,
        "author": ME,
        "content": payload.get("content", ""),
        "components": payload.get("components", []),
        "timestamp": "2026-01-01T00:00:00+00:00",
        "edited_timestamp": None,
    }


def _json(found: Any, status: int = 200) -> web.Response:
    """As Discord sends it: discord.py expects no charset beside the type."""
    body = json.dumps(found).encode()
    return web.Response(body=body, content_type="application/json", status=status)


def _answers(found: Any) -> Any:
    async def handler(_: web.Request) -> web.Response:
        return _json(found)

    return handler


@asynccontextmanager
async def connected(client: discord.Client, rest: DiscordRest) -> AsyncIterator[None]:
    """Serve it at a free port, with the client logged in there (without a gateway)."""
    runner = web.AppRunner(rest.application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        with patch.object(Route, "BASE", f"http://{host}:{port}"):
            await client.http.static_login(TOKEN)
            try:
                yield
            finally:
                await client.http.close()
    finally:
        await runner.cleanup()

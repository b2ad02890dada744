"""As much of Discord's HTTP interface as a login asks for, on a real local server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "right.token.here"
MESSAGE_CONTENT, MESSAGE_CONTENT_LIMITED = 1 << 18, 1 << 19
APPLICATION = 4711


def set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Api:
    """What it answers, once `answers` is set; `guilds` are pairs of a name and the permissions
    there. What the bot wants of its application is in `edits`; it is done if `edit_status` is 200
    and it `obeys`."""

    flags: int = MESSAGE_CONTENT_LIMITED
    guilds: list[tuple[str, int]] = field(default_factory=list)
    status: int = 200
    url: str = ""
    answers: asyncio.Event = field(default_factory=set_event)
    edits: list[dict[str, Any]] = field(default_factory=list)
    edit_status: int = 200
    obeys: bool = True

    async def me(self, request: web.Request) -> web.Response:
        await self.answers.wait()
        return self._answer(request, user(1, "gpt2bot"))

    async def application(self, request: web.Request) -> web.Response:
        return self._answer(request, self._known())

    async def edit(self, request: web.Request) -> web.Response:
        """The bot edits its own application."""
        wanted = await request.json()
        self.edits.append(wanted)
        if self.edit_status != 200:
            return in_json({"message": "Missing Access", "code": 50001}, status=self.edit_status)
        if self.obeys:
            self.flags = wanted.get("flags", self.flags)
        return self._answer(request, self._known())

    def _known(self) -> dict[str, Any]:
        return {
            "id": str(APPLICATION),
            "name": "gpt2bot",
            "icon": None,
            "description": "",
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "",
            "owner": user(2, "ada"),
            "flags": self.flags,
            "approximate_guild_count": len(self.guilds),
        }

    async def servers(self, request: web.Request) -> web.Response:
        """Those after an id, as many as were asked for; the permissions are a text."""
        first, limit = int(request.query.get("after", 0)), int(request.query["limit"])
        page = [
            {"id": str(n), "name": name, "permissions": str(granted), "features": []}
            for n, (name, granted) in enumerate(self.guilds, start=1)
        ][first : first + limit]
        return self._answer(request, page)

    def _answer(self, request: web.Request, found: Any) -> web.Response:
        if self.status != 200:
            return web.Response(status=self.status, text="not now")
        if request.headers.get("Authorization") != f"Bot {TOKEN}":
            return in_json({"message": "401: Unauthorized", "code": 0}, status=401)
        return in_json(found)


def in_json(found: Any, status: int = 200) -> web.Response:
    """As Discord sends it: discord.py expects no charset beside the type."""
    body = json.dumps(found).encode()
    return web.Response(body=body, content_type="application/json", status=status)


def user(number: int, name: str) -> dict[str, Any]:
    return {"id": str(number), "username": name, "discriminator": "0", "avatar": None}


@asynccontextmanager
async def serve(api: Api) -> AsyncIterator[Api]:
    """Serve it at a free port; `url` says where."""
    app = web.Application()
    app.router.add_get("/users/@me", api.me)
    app.router.add_get("/oauth2/applications/@me", api.application)
    app.router.add_patch("/applications/@me", api.edit)
    app.router.add_get("/users/@me/guilds", api.servers)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        api.url = f"http://{host}:{port}"
        yield api
    finally:
        await runner.cleanup()

"""Signing in with Discord, which a server on this machine stands in for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from pydantic import SecretStr

from bot.settings import Settings
from bot.web import oauth
from core.records import NewExample
from tests.bot.asking import storage_of
from tests.bot.conftest import World
from tests.bot.web.browser import Browser, new_browser, open_site
from tests.fakes import FakeWorker
from tests.ports import free_port

HOST = "growth.example.org"
PUBLIC = {
    "web_url": f"https://{HOST}",
    "discord_client_secret": SecretStr("the client secret"),
}


@dataclass
class FakeDiscord:
    """Answers as Discord's OAuth2 does: a code is good once, a token until it is revoked."""

    user: dict[str, Any] = field(default_factory=dict)
    guilds: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    codes: set[str] = field(default_factory=lambda: {"good"})
    tokens: set[str] = field(default_factory=set)
    broken: bool = False

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        if self.broken:
            return web.Response(text="<html>not JSON", content_type="application/json")
        if form["code"] not in self.codes:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.codes.discard(form["code"])
        self.tokens.add("an access token")
        return web.json_response({"access_token": "an access token", "token_type": "Bearer"})

    async def revoke(self, request: web.Request) -> web.Response:
        self.tokens.discard(str((await request.post())["token"]))
        return web.json_response({})

    async def me(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response(self.user)

    async def my_guilds(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response(self.guilds)

    def _check(self, request: web.Request) -> None:
        if request.headers["Authorization"].removeprefix("Bearer ") not in self.tokens:
            raise web.HTTPUnauthorized


@pytest.fixture
async def discord(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDiscord]:
    fake, port = FakeDiscord(), free_port()
    app = web.Application()
    app.add_routes(
        [
            web.post("/api/v10/oauth2/token", fake.token),
            web.post("/api/v10/oauth2/token/revoke", fake.revoke),
            web.get("/api/v10/users/@me", fake.me),
            web.get("/api/v10/users/@me/guilds", fake.my_guilds),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    monkeypatch.setattr(oauth, "DISCORD", f"http://127.0.0.1:{port}")
    yield fake
    await runner.cleanup()


@pytest.fixture
async def public(
    settings: Settings, worker: FakeWorker, port: int, discord: FakeDiscord
) -> AsyncIterator[World]:
    """The bot with a page that everybody reaches."""
    async with open_site(settings, worker, port, PUBLIC) as world:
        discord.user = {"id": str(world.ben.id), "locale": "ja"}
        discord.guilds = [{"id": str(world.guild.id)}, {"id": "77"}]
        yield world


@asynccontextmanager
async def visitor(port: int) -> AsyncIterator[Browser]:
    async with new_browser(port, Host=HOST) as browser:
        yield browser


async def begin(browser: Browser) -> dict[str, str]:
    """Press the button; what Discord is told."""
    address = await browser.leads_to("/oauth/start")
    return {name: value for name, [value] in parse_qs(urlsplit(address).query).items()}


async def test_a_member_signs_in_and_sees_their_own(
    public: World, port: int, discord: FakeDiscord
) -> None:
    for who, text in ((public.ben, "by ben"), (public.ada, "by ada")):
        lesson = NewExample(public.guild.id, text, "x", who.id, "teach")
        await storage_of(public).examples.add(lesson)
    async with visitor(port) as browser:
        front = await browser.get("/")
        assert "Sign in with Discord" in front.text
        asked = await begin(browser)
        assert asked["redirect_uri"] == f"https://{HOST}/oauth/callback"
        assert (asked["response_type"], asked["scope"]) == ("code", "identify guilds")
        assert asked["client_id"] == str(public.bot.application_id)
        page = await browser.get(f"/oauth/callback?code=good&state={asked['state']}")
        assert page.url.endswith(f"/s/{public.guild.id}")
        assert "by ben" in page.text
        assert "by ada" not in page.text
        assert "あなたが教えたこと" in page.text, "in the language of their Discord"
        assert (await browser.get(f"/s/{public.guild.id}/data")).status == 403
        assert (await browser.get("/s/77")).status == 404, "the bot is not there"
    [form] = discord.asked
    assert form["redirect_uri"] == asked["redirect_uri"]
    assert form["client_secret"] == "the client secret"
    assert discord.tokens == set(), "the token is given back"


async def test_guilds_that_discord_names_falsely_open_nothing(
    public: World, port: int, discord: FakeDiscord
) -> None:
    """What the sign-in says is only what may be asked for: the bot asks Discord itself."""
    stranger = public.env.create_user("mallory")
    discord.user = {"id": str(stranger.id), "locale": "en-GB"}
    async with visitor(port) as browser:
        state = (await begin(browser))["state"]
        page = await browser.get(f"/oauth/callback?code=good&state={state}")
        assert "I am in no server that you are in." in page.text
        assert (await browser.get(f"/s/{public.guild.id}")).status == 404


@pytest.mark.parametrize(
    "state", ["", "x", "9999999999.", f"9999999999.{'0' * 64}", "nan.x", "%00"]
)
async def test_a_state_that_was_forged(
    public: World, port: int, discord: FakeDiscord, state: str
) -> None:
    async with visitor(port) as browser:
        await begin(browser)
        page = await browser.get(f"/oauth/callback?code=good&state={state}")
        assert page.status == 403
        assert "This sign-in was not begun in this browser" in page.text
    assert discord.asked == [], "the code was not even looked at"


async def test_the_state_of_another_browser(public: World, port: int, discord: FakeDiscord) -> None:
    """Nobody is signed in as somebody else by a link that was sent to them."""
    async with visitor(port) as mallory, visitor(port) as victim:
        state = (await begin(mallory))["state"]
        await begin(victim)
        page = await victim.get(f"/oauth/callback?code=good&state={state}")
        assert page.status == 403
        assert (await victim.get(f"/s/{public.guild.id}")).status == 401


@pytest.mark.parametrize("code", ["", "bad", "used", "broken"])
async def test_a_code_that_discord_refuses(
    public: World, port: int, discord: FakeDiscord, code: str
) -> None:
    discord.broken = code == "broken"
    async with visitor(port) as browser:
        state = (await begin(browser))["state"]
        page = await browser.get(f"/oauth/callback?code={code}&state={state}&error=access_denied")
        assert page.status == 403
        assert "Discord did not confirm who you are" in page.text
        assert "Sign in with Discord" in page.text


async def test_without_the_secret_there_is_no_such_button(site: World, browser: Browser) -> None:
    assert "Sign in with Discord" not in (await browser.get("/")).text
    for path in ("/oauth/start", "/oauth/callback?code=good&state=x"):
        assert (await browser.get(path)).status == 404

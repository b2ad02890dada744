"""A browser without a screen: cookies, forms by their fields, and the text of a page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import aiohttp

from bot.settings import Settings
from tests.bot.conftest import World, open_world


@dataclass
class Form:
    """A form of a page: where it goes, and what it sends."""

    action: str
    fields: dict[str, str]
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append((tag, named))
        if tag == "form":
            self.forms.append(Form(named.get("action", ""), {}))
        elif tag == "input" and self.forms:
            self.forms[-1].fields[named.get("name", "")] = named.get("value", "")
        elif tag == "button" and self.forms:
            self.forms[-1].buttons.append((named.get("name", ""), named.get("value", "")))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@dataclass
class Answer:
    """What came back: after redirects, the last of it."""

    status: int
    url: str
    headers: Any
    html: str

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._read().texts).split())

    @property
    def tags(self) -> list[tuple[str, dict[str, str]]]:
        return self._read().tags

    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.html)
        return reader

    def form(self, action: str) -> Form:
        """The form whose address contains that."""
        return next(one for one in self._read().forms if action in one.action)


class Browser:
    """One browser at the page. `name` is the host that it believes to ask."""

    def __init__(self, port: int, session: aiohttp.ClientSession, **headers: str) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.headers = headers
        self._session = session

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._ask("GET", path, headers=headers)

    async def post(self, path: str, data: dict[str, str], **headers: str) -> Answer:
        return await self._ask("POST", path, data=data, headers=headers)

    async def submit(self, page: Answer, action: str, button: str = "", **changes: str) -> Answer:
        """Send a form of a page as it is, but for what is changed, with one of its buttons."""
        form = page.form(action)
        pressed = {name: value for name, value in form.buttons if value == button}
        target = form.action or page.url.removeprefix(self.base)
        return await self.post(target, {**form.fields, **pressed, **changes})

    @property
    def cookies(self) -> dict[str, str]:
        return {one.key: one.value for one in self._session.cookie_jar}

    async def leads_to(self, path: str) -> str:
        """Where a page sends the browser, without going there."""
        asked = self._session.get(self.base + path, headers=self.headers, allow_redirects=False)
        async with asked as answer:
            assert answer.status == 303, await answer.text()
            return answer.headers["Location"]

    async def _ask(self, method: str, path: str, headers: dict[str, str], **more: Any) -> Answer:
        asked = self._session.request(
            method, self.base + path, headers={**self.headers, **headers}, **more
        )
        async with asked as answer:
            return Answer(answer.status, str(answer.url), answer.headers, await answer.text())


@asynccontextmanager
async def new_browser(port: int, **headers: str) -> AsyncIterator[Browser]:
    # `unsafe`: cookies of an address that is no name; and those that are for TLS only
    jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=f"http://127.0.0.1:{port}")
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Browser(port, session, **headers)


@asynccontextmanager
async def open_site(
    settings: Settings,
    worker: Any,
    port: int,
    more: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    """The bot with its page; `more` are other settings."""
    async with open_world(
        settings.model_copy(update={"web_port": port, **(more or {})}), worker, **options
    ) as world:
        yield world


async def link_of(world: World, who: Any) -> str:
    """The path of the link that /growth shows."""
    told = await who.slash(world.general, "growth")
    assert told.ephemeral
    [path] = re.findall(r"https?://[^/\s>]+(/in/[\w-]+)", told.response.content)
    return str(path)


async def sign_in(world: World, browser: Browser, who: Any) -> Answer:
    """Sign in with the link of /growth; the first page."""
    page = await browser.get(await link_of(world, who))
    return await browser.submit(page, "")

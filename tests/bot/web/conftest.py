"""The real bot with its page, and browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bot.settings import Settings
from tests.bot.conftest import World
from tests.bot.web.browser import Browser, free_port, new_browser, open_site
from tests.fakes import FakeWorker


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def site(settings: Settings, worker: FakeWorker, port: int) -> AsyncIterator[World]:
    async with open_site(settings, worker, port) as world:
        yield world


@pytest.fixture
async def browser(port: int) -> AsyncIterator[Browser]:
    async with new_browser(port) as browser:
        yield browser


@pytest.fixture
async def other_browser(port: int) -> AsyncIterator[Browser]:
    async with new_browser(port) as browser:
        yield browser

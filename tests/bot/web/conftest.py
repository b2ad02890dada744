"""The real bot with its page, and browsers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from bot.discord_ui.cogs import growth
from bot.discord_ui.embeds.charts import render_growth_chart
from bot.settings import Settings
from i18n.reader import current_language
from tests.bot.conftest import World
from tests.bot.web.browser import Browser, new_browser, open_site
from tests.fakes import FakeWorker
from tests.ports import free_port

_drawn: dict[str, bytes] = {}


@pytest.fixture(autouse=True)
def _pictures_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly every test here signs in with the link of /growth, which has a picture beside it; a
    child draws that for a second, of the same numbers the first time only."""

    async def remembered(numbers: Mapping[str, object], folder: Path) -> bytes:
        key = json.dumps({"language": current_language(), **numbers})
        if key not in _drawn:
            _drawn[key] = await render_growth_chart(numbers, folder)
        return _drawn[key]

    monkeypatch.setattr(growth, "render_growth_chart", remembered)


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

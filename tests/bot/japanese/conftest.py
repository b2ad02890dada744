"""A server in which everybody reads Japanese."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bot.settings import Settings
from tests.bot.conftest import World
from tests.bot.japanese.discord import japan
from tests.fakes import FakeWorker


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(lambda _: "はい そうです")


@pytest.fixture
async def world(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    changes = {"longest_message": 100, "learn_from_chat": True}
    async with japan(settings, worker, monkeypatch, **changes) as world:
        yield world

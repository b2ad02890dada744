"""A server in which everybody reads Japanese."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bot.settings import Settings
from tests.bot.conftest import World, open_world
from tests.bot.japanese.discord import speak_japanese
from tests.fakes import FakeWorker

MODELS = {"mine": "/some/where"}
SETTINGS: dict[str, Any] = {"longest_message": 100, "learn_from_chat": True, "models": MODELS}


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(lambda _: "はい そうです")


@pytest.fixture
async def world(
    request: pytest.FixtureRequest,
    settings: Settings,
    worker: FakeWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The parameter holds settings that differ. Refusals are expected."""
    speak_japanese(monkeypatch)
    changed = settings.model_copy(update=SETTINGS | getattr(request, "param", {}))
    async with open_world(changed, worker, preferred_locale="ja", check_errors=False) as world:
        yield world

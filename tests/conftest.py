"""Settings of the whole suite: nothing is downloaded, nothing inherited from the machine."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from data.storage.storage import Storage
from tests.databases import open_empty

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tests run beside each other, a core for each
# A shell starts background jobs with Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each child would compile torch anew

settings.register_profile("suite", deadline=None, max_examples=50)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test begins first, or it would be left alone at the end, beside an idle core."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


def pytest_collection_finish() -> None:
    """What has been imported stays; the collector of garbage need not look at it again and again,
    which takes half a second each time, and a training run asks for it twice."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` or variables of the developer must not decide what a test sees."""
    for name in (
        "DISCORD_TOKEN",
        "DEFAULT_MODEL",
        "MODELS",
        "GPT2BOT_HOME",
        "SEED",
        "BOT_LANGUAGE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "bot.sqlite3"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[Storage]:
    """A real store in a file of its own."""
    async with open_empty(path) as storage:
        yield storage

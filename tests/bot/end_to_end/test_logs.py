"""One reply in the log of both processes: the same request, its figures, and none of its words."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from bot.cli.start import VERBOSE_LOGGERS, configure_bot_logging
from bot.settings import Settings
from model.errors import WorkerDied
from model.registry import EMBEDDED_FOLDER
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from tests.bot.conftest import open_world
from tests.builds import BUILT, built
from tests.fakes import FakeWorker

OURS = "zebra crossing"
"""What nobody may read in the log."""


class Written(io.StringIO):
    """What the bot wrote."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "a reply ended"]


@contextmanager
def log_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """The whole log of this process, as `gpt2bot run` writes it; then as it was before."""
    written = Written()
    levels = {name: logging.getLogger(name).level for name in VERBOSE_LOGGERS}
    with monkeypatch.context() as own:
        own.setattr(logging.root, "handlers", [])
        own.setattr(logging.root, "level", logging.root.level)
        own.setattr(sys, "stderr", written)
        own.setattr(sys, "excepthook", sys.excepthook)
        own.setattr("threading.excepthook", None)
        configure_bot_logging(settings)
        try:
            yield written
        finally:
            logging.captureWarnings(False)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@pytest.fixture
def loud(settings: Settings) -> Settings:
    """All that can be logged, as JSON."""
    token = SecretStr("hunter2-is-the-token")
    return settings.model_copy(
        update={"log_format": "json", "log_level": "DEBUG", "discord_token": token}
    )


async def test_a_reply_has_one_request_in_both_processes(
    loud: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    built(EMBEDDED_FOLDER)
    with log_of(loud, monkeypatch) as bot:
        quick = WorkerSettings(threads=1, build_cache=BUILT, log_level="DEBUG", log_format="json")
        async with WorkerClient(quick) as worker, open_world(loud, worker) as world:
            assert await world.say(world.ben, OURS)
            await world.ben.slash(world.general, "chat", text="hello")
    # Other processes of the suite write to the same descriptor, in their own format.
    lines = capfd.readouterr().err.splitlines()
    worker_lines = [json.loads(line) for line in lines if line.startswith("{")]
    first, second = [line["request"] for line in bot.ends]
    assert re.fullmatch(r"[0-9a-f]{12}", first)
    assert first != second
    for request in (first, second):
        said = [line["event"] for line in worker_lines if line.get("request") == request]
        assert said == ["taken", "written"]
    assert all(line["logger"].startswith("model.") for line in worker_lines)
    assert OURS not in bot.getvalue()
    assert OURS not in json.dumps(worker_lines)


async def test_the_end_of_a_reply_is_one_line_with_its_figures(
    loud: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_of(loud, monkeypatch) as bot:
        async with open_world(loud, worker) as world:
            question = await world.ben.send(world.general, f"{world.bot.user.mention} {OURS}")
    [line] = bot.ends
    assert line["model"] == "tiny"
    assert line["tokens"] == 4
    assert line["reason"] == "end"
    assert 0 < line["first_s"] <= line["seconds"]
    assert line["asked"] == question.id
    assert (line["channel"], line["scope"]) == (world.general.id, world.guild.id)
    assert line["level"] == "info"


async def test_what_people_say_is_in_no_line_at_any_level(
    loud: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_of(loud, monkeypatch) as bot:
        async with open_world(loud, worker) as world:
            await world.say(world.ben, OURS)
            await world.ben.slash(world.general, "chat", text=OURS)
            await world.ben.slash(world.general, "teach", user=OURS, bot=OURS)
    assert len(bot.ends) == 2
    assert OURS not in bot.getvalue()


async def test_it_is_in_the_line_of_the_end_where_the_operator_asked_for_it(
    loud: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud = loud.model_copy(update={"log_content": True, "log_level": "INFO"})
    with log_of(loud, monkeypatch) as bot:
        async with open_world(loud, worker) as world:
            await world.say(world.ben, f"{OURS} hunter2-is-the-token")
    [line] = bot.ends
    assert line["question"] == f"{OURS} [secret]"
    assert line["answer"] == f"you said {OURS} [secret]"
    assert bot.getvalue().count(OURS) == 2


async def test_a_reply_that_failed_says_how(
    loud: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.failure = WorkerDied("The model stopped.")
    with log_of(loud, monkeypatch) as bot:
        async with open_world(loud, worker) as world:
            await world.say(world.ben, "hello")
    [line] = bot.ends
    assert line["reason"] == "worker_died"
    assert "model" not in line


async def test_an_error_is_told_with_the_request_that_met_it(
    loud: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.failure = RuntimeError("hunter2-is-the-token")
    with log_of(loud, monkeypatch) as bot:
        async with open_world(loud, worker, check_errors=False) as world:
            await world.say(world.ben, "hello")
    [failed] = [line for line in bot.lines if "exception" in line]
    assert failed["request"] == bot.ends[0]["request"]
    assert "RuntimeError: [secret]" in failed["exception"]
    assert bot.ends[0]["reason"] == "error"

"""SIGTERM in the middle of anything: the bot's process ends in order, with all that it started."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.bot.end_to_end.test_killed_bot import ROOT, left_by
from tests.builds import put_built, put_built_tiny
from tests.model_folders import make_endless_folder

GRACE_S = 45.0
"""Seconds that it may take on a busy machine; the bot's own limits are shorter."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs SIGTERM and /proc")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`endless` never ends a reply."""
    folder = tmp_path_factory.mktemp("models")
    make_endless_folder(folder / "endless")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    put_built_tiny(tmp_path / "home")
    yield tmp_path / "home"
    for one in left_by(tmp_path / "home", 0):
        one.kill()


def stop_at(moment: str, home: Path, models: Path, *, signals: int = 1) -> str:
    """Run the bot until the moment, stop it, and see that nothing is left; its stderr."""
    command = [
        sys.executable,
        "-m",
        "tests.bot.end_to_end.stopped_bot",
        home,
        models / "endless",
        moment,
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bot:
        assert bot.stdout is not None
        line = bot.stdout.readline()
        assert line, bot.communicate()[1]
        worker = psutil.Process(json.loads(line)["worker"])
        family = [worker, *worker.children(recursive=True), *left_by(home, 0)]
        for _ in range(signals):
            bot.send_signal(signal.SIGTERM)
            time.sleep(0.05)  # two in a row are two, not one
        _, told = bot.communicate(timeout=GRACE_S)
    assert bot.returncode == 0, told
    assert "Traceback" not in told
    _, alive = psutil.wait_procs([one for one in family if one.pid != bot.pid], timeout=10)
    assert alive == []
    return told


def rows(home: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "gpt2bot.sqlite3")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute(sql).fetchall()


def test_before_the_worker_is_ready(home: Path, models: Path) -> None:
    stop_at("start", home, models)
    assert rows(home, "SELECT * FROM messages") == []


def test_while_somebody_waits_for_the_worker(home: Path, models: Path) -> None:
    stop_at("waiting", home, models)
    assert rows(home, "SELECT role, content FROM messages")[0] == ("user", "hello")


@pytest.mark.parametrize("signals", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_while_a_reply_grows_it_ends_where_it_is(home: Path, models: Path, signals: int) -> None:
    put_built(models / "endless", home)
    stop_at("replying", home, models, signals=signals)
    [asked, said] = rows(home, "SELECT role, content FROM messages ORDER BY id")
    assert asked == ("user", "hello")
    assert said[0] == "assistant"
    assert str(said[1]).startswith("0 1 2 3")
    assert len(rows(home, "SELECT * FROM replies")) == 1


@pytest.mark.slow
def test_while_a_model_is_built(home: Path, models: Path) -> None:
    stop_at("loading", home, models)
    assert rows(home, "SELECT * FROM activations") == []


@pytest.mark.slow
def test_while_it_trains(home: Path, models: Path) -> None:
    stop_at("training", home, models)
    assert rows(home, "SELECT state FROM jobs") == [("queued",)]

"""RAY_ADDRESS=local: a cluster that comes up with the bot, answers, and never outlives it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from core.subprocesses import child_environment
from tests.builds import put_built_tiny

pytestmark = pytest.mark.cluster

END_S = 60.0
"""Seconds for all processes to end."""
BOT = """
import asyncio, sys
from bot.app import running_worker
from bot.cluster import joined_cluster
from bot.settings import load_settings
from core.records import Message, Role
from model.cluster.fallback import LOCAL_IDS
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams

async def main():
    settings = load_settings()
    async with joined_cluster(settings) as address, running_worker(settings, None, address) as here:
        async with asyncio.timeout(240):
            while not here.is_available:
                await asyncio.sleep(0.1)
        params = SamplingParams(max_new_tokens=8, seed=1)
        pieces = here.generate(str(EMBEDDED_FOLDER), [Message(Role.USER, "hello")], params)
        *_, end = [one async for one in pieces]
        print("cluster" if end.request_id < LOCAL_IDS else "worker", repr(end.text), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
"""What the bot does of it, until the end of stdin."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path, in which Ray's sockets fit."""
    folder = Path(tempfile.mkdtemp(prefix="g2b-"))
    put_built_tiny(folder / ".cache" / "gpt2bot")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_it_answers_and_ends_with_the_bot(home: Path, is_killed: bool) -> None:
    environment = child_environment() | {
        "HOME": str(home),
        "GPT2BOT_HOME": str(home / "bot"),
        "RAY_TMPDIR": str(home),
        "RAY_ADDRESS": "local",
        "CLUSTER_REPLICAS": "1:1",
        "THREADS": "1",
    }
    bot = subprocess.Popen(
        [sys.executable, "-c", BOT],
        cwd=home,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bot.stdin is not None
    assert bot.stdout is not None
    family = []
    try:
        told = bot.stdout.readline()
        assert told.startswith("cluster "), told
        family = psutil.Process(bot.pid).children(recursive=True)
        assert any("raylet" in one.name() for one in family)
        if is_killed:
            bot.kill()
        else:
            bot.stdin.close()
        status = bot.wait(END_S)
        _, alive = psutil.wait_procs(family, timeout=END_S)
        assert not alive
        assert is_killed or status == 0
    finally:
        if bot.poll() is None:
            family = psutil.Process(bot.pid).children(recursive=True)
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        bot.kill()
        bot.wait()
        bot.stdin.close()
        bot.stdout.close()

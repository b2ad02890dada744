"""`gpt2bot cluster`, as people run it; the clusters are real ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bot.cli.doctor.cluster import CLUSTER, NAMES, REPLY, check_cluster
from bot.settings import load_settings
from tests.bot.cli.command import ROOT, Command
from tests.builds import put_built_tiny
from tests.ports import free_port

NO_RAY = (
    "import importlib.util as util; find = util.find_spec\n"
    "util.find_spec = lambda name, *more: None if name == 'ray' else find(name, *more)\n"
    "from bot.__main__ import main; main()"
)
"""The command where the extra is not installed."""
START_S = 120


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize(("address", "said"), [("", "is not set"), ("local", "from outside")])
def test_a_status_of_nothing(gpt2bot: Command, address: str, said: str) -> None:
    done = gpt2bot("cluster", "status", RAY_ADDRESS=address)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr


@pytest.mark.parametrize("arguments", [("cluster", "up"), ("run",)])
def test_without_the_extra_one_sentence(gpt2bot: Command, arguments: tuple[str, ...]) -> None:
    token = "MTE5.G7Xb3k.abcdefghijklmnopqrstuvwxyz0123456789"
    done = gpt2bot(*arguments, code=NO_RAY, RAY_ADDRESS="auto", DISCORD_TOKEN=token)
    assert done.returncode == 2
    assert "gpt2-discord-bot[cluster]" in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_doctor_says_that_a_cluster_cannot_be_reached() -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = load_settings(ray_address=address)
    found = await check_cluster(settings, address)
    assert [one.name for one in found] == list(NAMES)
    assert not any(one.ok for one in found)
    assert found[0].name == CLUSTER
    assert all(one.advice for one in found)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, in which Ray's sockets fit."""
    folder = Path(tempfile.mkdtemp(prefix="g2b-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
def test_a_cluster_comes_up_is_shown_and_ends_with_ctrl_c(short: Path) -> None:
    port = free_port()
    put_built_tiny(short / ".cache" / "gpt2bot")
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        "HOME": str(short),
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(short),
    }
    command = [sys.executable, "-m", "bot"]
    up = subprocess.Popen(
        [*command, "cluster", "up", "--cpus", "1", "--port", str(port)],
        cwd=short,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stdout is not None
        told = up.stdout.readline()
        assert f":{port}, with 1 CPU" in told, told
        token = short / ".ray" / "auth_token"
        assert token.stat().st_mode & 0o077 == 0
        address = told.split(" is up at ")[1].split(",")[0]

        def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, *arguments],
                cwd=short,
                env={**environment, "RAY_ADDRESS": address, **more},
                capture_output=True,
                text=True,
                timeout=START_S,
                check=False,
            )

        shown = run("cluster", "status")
        assert shown.returncode == 0, shown.stderr
        assert "1 node" in shown.stdout
        assert "1 CPU, 0 GPU" in shown.stdout
        for other in ({"HOME": "/nonexistent"}, {"RAY_AUTH_TOKEN": "0" * 64}):
            stranger = run("cluster", "status", **other)
            assert stranger.returncode == 2
            assert "refused the token" in stranger.stderr
        checks = json.loads(run("doctor", "--json").stdout)["checks"]
        found = {one["name"]: one for one in checks}
        assert [found[name]["advice"] for name in NAMES] == ["", "", ""], checks
        assert "1 node" in found[CLUSTER]["detail"]
        assert "tiny answered with" in found[REPLY]["detail"]
        children = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)
        assert up.wait(START_S) == 0
        _, alive = psutil.wait_procs(children, timeout=START_S)  # a replica's end takes a moment
        assert not alive
    finally:
        up.kill()
        up.communicate()

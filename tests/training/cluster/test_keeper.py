"""A run on a machine of the cluster ends with the process that started it, and leaves no words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
KEEPER = (sys.executable, "-m", "training.cluster.keeper")
PARENT = """
import os, subprocess, sys
command = [sys.executable, "-m", "training.cluster.keeper", str(os.getpid()), *sys.argv[1:]]
child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
child.wait()
"""
ENDLESS = "import signal, sys; print('began', flush=True); signal.pause()"


def kept(home: Path, code: str) -> subprocess.Popen[str]:
    command = [*KEEPER, str(os.getpid()), str(home), sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 15)", -15),
    ],
)
def test_it_ends_as_its_command_does(tmp_path: Path, code: str, status: int) -> None:
    with kept(tmp_path, code) as keeper:
        assert keeper.wait(30) == status
    assert tmp_path.is_dir()


def test_a_command_is_told_to_end(tmp_path: Path) -> None:
    with kept(tmp_path, ENDLESS) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "began\n"
        keeper.terminate()
        assert keeper.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize("whom", ["the parent", "its child"])
def test_nothing_is_left_when_it_is_killed(tmp_path: Path, whom: str) -> None:
    """Ray kills its process, or first of all that one's children."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dataset.jsonl").write_text("somebody's words")
    command = [sys.executable, "-c", PARENT, str(home), sys.executable, "-c", ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "began\n"
        [keeper] = psutil.Process(parent.pid).children()
        (keeper if whom == "its child" else parent).kill()
        assert parent.stdout.read() == ""  # its end: the command and the keeper are gone
    assert not home.exists()

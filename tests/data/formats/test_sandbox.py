"""Reading in a process of its own: the real child."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import psutil
import pytest

from core.errors import ImportRefused
from core.limits import limit_resources
from core.records import Pair
from core.subprocesses import PROJECT_ROOT, child_process
from data.formats.files import read_pairs, write_annotated_copy, write_pairs
from data.formats.sandbox import child, client
from data.formats.sandbox.client import read_in_subprocess

TABLE = "user,bot,source\nq,a,\nq,,\n\nq,,s\nq,a,,\n,b,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the child leaves what it found."""
    (tmp_path / "staged").mkdir()
    return tmp_path / "staged"


async def test_it_gives_what_reading_gives(tmp_path: Path, folder: Path) -> None:
    path, marked = tmp_path / "pairs.csv", tmp_path / "marked.csv"
    path.write_text(TABLE + "質問,答え\n" * 2500, encoding="utf-8")
    told: list[int] = []
    staged = await read_in_subprocess(path, folder, on_progress=told.append)
    found = read_pairs(path)
    assert staged.summary == found.summarize()
    assert tuple(staged.pairs()) == found.pairs
    assert found.errors
    assert found.joined
    assert told == [1000, 2000, 2505]
    write_annotated_copy(path, found.errors, marked)
    assert staged.marked_copy is not None
    assert staged.marked_copy.read_bytes() == marked.read_bytes()


async def test_the_sentence_of_the_child(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "stored"
    path.write_text("{}")
    with pytest.raises(ImportRefused, match=r"pairs of Ada\.json must be a list"):
        await read_in_subprocess(path, folder, name="pairs of Ada.json")


def children() -> list[psutil.Process]:
    running = psutil.Process(os.getpid()).children(recursive=True)
    return [one for one in running if "data.formats.sandbox.child" in one.cmdline()]


async def _reading(path: Path, folder: Path, begun: asyncio.Event) -> None:
    await read_in_subprocess(path, folder, on_progress=lambda rows: begun.set())


async def test_cancelled_the_child_is_gone(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs([Pair(f"q{n}", "a" * 100) for n in range(30_000)], path)
    begun = asyncio.Event()
    task = asyncio.create_task(_reading(path, folder, begun))
    await begun.wait()
    assert len(children()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_a_child_that_dies(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs([Pair(f"q{n}", "a" * 100) for n in range(30_000)], path)
    begun = asyncio.Event()
    task = asyncio.create_task(_reading(path, folder, begun))
    await begun.wait()
    children()[0].kill()
    with pytest.raises(ImportRefused, match="ended early"):
        await task


LIMITED = {
    "memory": "try:\n    bytearray(2**29)\nexcept MemoryError:\n    print('refused')\n",
    "processor time": "print('begun', flush=True)\nwhile True:\n    pass\n",
    "files": (
        "import tempfile\nbytearray(2**27)\nwith tempfile.TemporaryFile() as file:\n"
        "    try:\n        file.write(b'x' * 2000)\n        file.flush()\n"
        "    except OSError:\n        print('refused')\n        file.seek(0)\n"
    ),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are Linux's here")
@pytest.mark.parametrize("what", LIMITED)
def test_the_limits_of_a_child(what: str) -> None:
    setting = f"from {limit_resources.__module__} import limit_resources\n"
    setting += "limit_resources(memory=2**28, cpu_s=0.5, file_bytes=1000)\n"
    out = subprocess.run(
        [sys.executable, "-c", setting + LIMITED[what]],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT_ROOT,
    )
    if what == "processor time":
        assert (out.stdout, out.returncode) == ("begun\n", -signal.SIGXCPU)
    else:
        assert out.stdout == "refused\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are Linux's here")
async def test_a_file_that_takes_too_long(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs([Pair(f"q{n}", "a" * 100) for n in range(30_000)], path)
    monkeypatch.setattr(client, "STARTING_S", 0.0)
    monkeypatch.setattr(client, "WAITING_FACTOR", 0.0)
    with pytest.raises(ImportRefused, match="takes longer to read than a file of its size may"):
        await read_in_subprocess(path, folder)


async def test_a_child_ends_with_its_parent(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs([Pair(f"q{n}", "a" * 100) for n in range(30_000)], path)
    command = [sys.executable, "-m", child.__name__, str(path), str(folder), path.name, "en"]
    async with child_process(command, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout
        assert process.stdin
        await process.stdout.readline()  # it reads
        process.stdin.close()
        assert await process.wait() == 1


def test_the_benchmark_runs() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "benchmarks.importing", "--rows", "300", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT_ROOT,
    )
    result = json.loads(out.stdout)
    assert result["rows"] == result["pairs"] == 300
    assert result["child_peak_mb"] > 10

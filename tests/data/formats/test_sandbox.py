"""Reading in a process of its own: the real child."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from core.errors import ImportRefused
from core.records import Pair
from core.subprocesses import PROJECT_ROOT
from data.formats.files import read_pairs, write_pairs
from data.formats.sandbox import read_in_subprocess
from data.formats.sandbox_child import limit_memory

TABLE = "user,bot,source\nq,a,\nq,,\n\nq,,s\nq,a,,\n,b,\n"


async def test_it_gives_what_reading_gives(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(TABLE + "質問,答え\n" * 2500, encoding="utf-8")
    told: list[int] = []
    found = await read_in_subprocess(path, on_progress=told.append)
    assert found == read_pairs(path)
    assert found.errors
    assert found.joined
    assert told == [1000, 2000, 2505]


async def test_the_sentence_of_the_child(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_text("{}")
    with pytest.raises(ImportRefused, match=r"pairs of Ada\.json must be a list"):
        await read_in_subprocess(path, name="pairs of Ada.json")


def children() -> list[psutil.Process]:
    running = psutil.Process(os.getpid()).children(recursive=True)
    return [one for one in running if "data.formats.sandbox_child" in one.cmdline()]


async def test_cancelled_the_child_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs([Pair(f"q{n}", "a" * 100) for n in range(30_000)], path)
    begun = asyncio.Event()
    task = asyncio.create_task(read_in_subprocess(path, on_progress=lambda rows: begun.set()))
    await begun.wait()
    assert len(children()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_a_child_that_dies(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs([Pair(f"q{n}", "a" * 100) for n in range(30_000)], path)
    begun = asyncio.Event()
    task = asyncio.create_task(read_in_subprocess(path, on_progress=lambda rows: begun.set()))
    await begun.wait()
    children()[0].kill()
    with pytest.raises(ImportRefused, match="ended early"):
        await task


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are Linux's here")
def test_the_memory_is_limited() -> None:
    code = (
        f"from {limit_memory.__module__} import limit_memory\n"
        "limit_memory(2**28)\n"
        "bytearray(2**27)\n"
        "try:\n    bytearray(2**29)\n"
        "except MemoryError:\n    print('refused')\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT_ROOT,
    )
    assert out.stdout == "refused\n"


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

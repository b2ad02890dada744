"""Reads a file of pairs beside the event loop: in a child process that can be killed.

Knows the child, its pipe and the lines on it. Does not know formats.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from core.errors import ImportRefused
from core.subprocesses import end, environment
from data.formats.import_result import Imported, ignore
from data.formats.sandbox_child import RECORDS, batches, without_collections
from i18n.phrase import phrase, unpacked

ROOT = Path(__file__).parents[2]


async def read_apart(
    path: Path, *, name: str | None = None, on_progress: Callable[[int], None] = ignore
) -> Imported:
    """As `read`, in a process of its own, which is gone at the end, also when this is cancelled.

    Raises:
        ImportRefused: with the child's sentence, or because the child ended.
    """
    name = name or path.name
    with tempfile.TemporaryDirectory(prefix="gpt2bot-import-") as folder:
        out = Path(folder, "imported.jsonl")
        process = await _started(path, out, name)
        try:
            await _follow(process, on_progress)
            if await process.wait():
                raise ImportRefused(_ended(name))
        finally:
            await end(process)
        return await _loaded(out)


def _ended(name: str) -> str:
    return phrase(
        "{name} could not be read: the reading ended early, perhaps for lack of memory.", name=name
    )


async def _started(path: Path, out: Path, name: str) -> Process:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "data.formats.sandbox_child",
        os.fspath(path),
        os.fspath(out),
        name,
        stdin=DEVNULL,
        stdout=PIPE,
        env=environment() | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


async def _follow(process: Process, on_progress: Callable[[int], None]) -> None:
    assert process.stdout is not None  # a pipe was asked for
    async for line in process.stdout:
        event = json.loads(line)
        if "refused" in event:
            raise ImportRefused(unpacked(event["refused"]))
        on_progress(event["rows"])


async def _loaded(out: Path) -> Imported:
    """In small steps on the loop: a thread would hold it up for longer, by its share of the GIL."""
    found: dict[str, list[Any]] = {kind: [] for kind in ("rows", *RECORDS)}
    with without_collections(), closing(batches(out)) as loading:
        for kind, values in loading:
            found[kind] += values
            await asyncio.sleep(0)
    return Imported(
        tuple(found["pair"]), tuple(found["problem"]), tuple(found["joined"]), *found["rows"]
    )

"""Reads an uploaded file of pairs in a child process. Knows its protocol, but no format."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from core.errors import ImportRefused
from core.subprocesses import child_process
from data.formats.import_result import ImportResult, ignore_progress
from data.formats.sandbox_child import RECORD_TYPES, gc_paused, read_batches
from i18n.phrase import deserialize_phrase, phrase


async def read_in_subprocess(
    path: Path, *, name: str | None = None, on_progress: Callable[[int], None] = ignore_progress
) -> ImportResult:
    """`read_pairs` in a child process, which is ended also by an error or cancellation.

    Raises:
        ImportRefused: the child refused the file, or crashed.
    """
    name = name or path.name
    with tempfile.TemporaryDirectory(prefix="gpt2bot-import-") as folder:
        out = Path(folder, "imported.jsonl")
        command = [sys.executable, "-m", "data.formats.sandbox_child", str(path), str(out), name]
        async with child_process(command, stdin=DEVNULL, stdout=PIPE) as process:
            await _follow(process, on_progress)
            if await process.wait():
                raise ImportRefused(
                    phrase(
                        "{name} could not be read: the reading ended early, perhaps for lack of "
                        "memory.",
                        name=name,
                    )
                )
        return await _load_result(out)


async def _follow(process: Process, on_progress: Callable[[int], None]) -> None:
    assert process.stdout is not None  # stdout=PIPE
    async for line in process.stdout:
        event = json.loads(line)
        if "refused" in event:
            raise ImportRefused(deserialize_phrase(event["refused"]))
        on_progress(event["rows"])


async def _load_result(out: Path) -> ImportResult:
    """Builds the result on the event loop in small steps: a thread would block it for longer,
    since it holds the GIL."""
    found: dict[str, list[Any]] = {kind: [] for kind in ("rows", *RECORD_TYPES)}
    with gc_paused(), closing(read_batches(out)) as loading:
        for kind, values in loading:
            found[kind] += values
            await asyncio.sleep(0)
    return ImportResult(
        tuple(found["pair"]), tuple(found["problem"]), tuple(found["joined"]), *found["rows"]
    )

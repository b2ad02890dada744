"""Reads an uploaded file of pairs in a child process. Knows its protocol, but no format."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import ImportRefused
from core.subprocesses import child_process
from data.formats.import_result import ignore_progress
from data.formats.sandbox.child import cpu_limit_s
from data.formats.sandbox.staged import StagedImport, copy_path, load_staged
from i18n.phrase import deserialize_phrase, phrase
from i18n.reader import current_language

WAITING_FACTOR = 3.0
"""How much longer by the clock than in processor time a child may take, besides `STARTING_S`: other
work has precedence."""
STARTING_S = 30.0
_OUT_OF_TIME = -getattr(signal, "SIGXCPU", 0)


async def read_in_subprocess(
    path: Path,
    folder: Path,
    *,
    name: str | None = None,
    on_progress: Callable[[int], None] = ignore_progress,
) -> StagedImport:
    """`read_pairs` and `write_annotated_copy` in a child process, which is ended also by an error
    or cancellation. What it found lies in `folder`.

    Raises:
        ImportRefused: the child refused the file, crashed, or took too long.
    """
    name = name or path.name
    size = await asyncio.to_thread(lambda: path.stat().st_size)
    command = [sys.executable, "-m", "data.formats.sandbox.child"]
    command += [str(path), str(folder), name, current_language()]
    seen = _Seen(on_progress)
    status = None
    async with child_process(command, stdin=PIPE, stdout=PIPE) as process:
        with suppress(TimeoutError):
            async with asyncio.timeout(STARTING_S + WAITING_FACTOR * cpu_limit_s(size)):
                await seen.follow(process)
                status = await process.wait()
    if not seen.is_read:
        raise ImportRefused(_why_ended(name, status))
    if status != 0:  # the copy was not finished
        copy_path(folder).unlink(missing_ok=True)
    return load_staged(folder)


def _why_ended(name: str, status: int | None) -> str:
    if status in (None, _OUT_OF_TIME):
        return phrase(
            "{name} takes longer to read than a file of its size may: split it into parts.",
            name=name,
        )
    return phrase(
        "{name} could not be read: the reading ended early, perhaps for lack of memory.", name=name
    )


@dataclass(slots=True)
class _Seen:
    """What the child has told so far."""

    on_progress: Callable[[int], None]
    is_read: bool = False

    async def follow(self, process: Process) -> None:
        assert process.stdout is not None  # stdout=PIPE
        async for line in process.stdout:
            event = json.loads(line)
            if "refused" in event:
                raise ImportRefused(deserialize_phrase(event["refused"]))
            if "rows" in event:
                self.on_progress(event["rows"])
            self.is_read = self.is_read or "read" in event

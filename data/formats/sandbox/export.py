"""Writes an export in a child process: `python -m data.formats.sandbox.export STAGED OUT`.

Only the child holds all pairs at once; the bot passes them on page by page, in a file.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterable, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import StoreError, write_error
from core.limits import end_with_parent, limit_resources
from core.records import Pair
from core.subprocesses import child_process, lower_priority
from data.formats.files import write_pairs
from data.formats.sandbox.staged import append_page, iter_pages
from i18n.phrase import phrase

MAX_MEMORY_BYTES, MAX_CPU_S, MAX_FILE_BYTES = 2**30, 120.0, 10**9
"""What the child may take; 100,000 pairs in a workbook take 10 s."""
TIMEOUT_S = 300.0
EXPORT_FAILED = phrase("The file could not be written. The operator can read why in the log.")

log = logging.getLogger(__name__)


class Exported(NamedTuple):
    """How many pairs a file was written from, and its size in bytes; 0: there is no file."""

    pairs: int
    size: int


async def write_in_subprocess(pages: AsyncIterable[Sequence[Pair]], out: Path) -> Exported:
    """`write_pairs` in a child process. The pages are kept beside `out`.

    Raises:
        DiskFull, StoreError: the file could not be written.
    """
    staged, count = out.with_name("staged"), 0
    try:
        async for page in pages:
            await asyncio.to_thread(append_page, staged, page)
            count += len(page)
    except OSError as e:
        raise write_error(out.name, e) from e
    if not count:
        return Exported(0, 0)
    await _run_child(staged, out)
    return Exported(count, (await asyncio.to_thread(out.stat)).st_size)


async def _run_child(staged: Path, out: Path) -> None:
    command = [sys.executable, "-m", "data.formats.sandbox.export", str(staged), str(out)]
    async with child_process(command, stdin=PIPE, stderr=PIPE) as process:
        assert process.stderr is not None  # stderr=PIPE
        try:
            async with asyncio.timeout(TIMEOUT_S):
                errors = await process.stderr.read()
                status = await process.wait()
        except TimeoutError as e:
            raise StoreError(EXPORT_FAILED) from e
    if status:
        log.error("no export (exit status %d): %s", status, errors.decode()[-2000:])
        raise StoreError(EXPORT_FAILED)


def main() -> None:
    staged, out = map(Path, sys.argv[1:])
    end_with_parent()
    limit_resources(memory=MAX_MEMORY_BYTES, cpu_s=MAX_CPU_S, file_bytes=MAX_FILE_BYTES)
    lower_priority(10)  # the bot, which is answering people, gets the CPU first
    write_pairs((pair for page in iter_pages(staged) for pair in page), out)


if __name__ == "__main__":
    main()

"""The child process that reads one file: `python -m data.formats.sandbox_child PATH OUT NAME`.

Writes JSON lines. To stdout: {"rows": N} as progress, or {"refused": sentence} on failure.
To OUT: ["rows", [N]], then [kind, records] with a kind of `RECORD_TYPES`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import psutil

from core.errors import ImportRefused
from core.records import Pair
from data.formats.files import read_pairs
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.registry import FORMATS
from i18n.phrase import deserialize_phrase, phrase, serialize_phrase

MAX_MEMORY_BYTES = 2**30
"""Bytes of address space that reading may add, where the system can limit it."""
RECORDS_PER_LINE = 500
"""Records per line of OUT."""

RECORD_TYPES: dict[str, Callable[..., Any]] = {
    "pair": Pair,
    "problem": lambda row, reason, sheet: RowError(row, deserialize_phrase(reason), sheet),
    "joined": JoinedText,
}


def main() -> None:
    path, out, name = sys.argv[1:]
    for one in FORMATS:
        one.codec()  # before the limit: numpy, which openpyxl imports, reserves address space
    limit_memory(MAX_MEMORY_BYTES)
    gc.disable()  # reading makes no reference cycles
    if hasattr(os, "nice"):
        os.nice(10)  # the bot, which is answering people, gets the CPU first
    try:
        imported = read_pairs(Path(path), name=name, on_progress=lambda rows: emit_event(rows=rows))
        write_result(imported, Path(out))
    except ImportRefused as e:
        emit_event(refused=serialize_phrase(e.args[0]))
    except MemoryError:
        message = phrase(
            "{name} needs more memory than an import may have: split it into parts.", name=name
        )
        emit_event(refused=serialize_phrase(message))


def limit_memory(size: int) -> None:
    """Limit the address space to `size` bytes beyond the current use, where supported."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    size += psutil.Process().memory_info().vms
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > size:
        with suppress(OSError, ValueError):  # macOS has the limit but refuses to set it
            resource.setrlimit(resource.RLIMIT_AS, (size, hard))


def emit_event(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def write_result(imported: ImportResult, out: Path) -> None:
    with out.open("w", encoding="utf-8") as file:
        file.write(json.dumps(["rows", [imported.rows]]) + "\n")
        problems = tuple(
            replace(one, reason=serialize_phrase(one.reason)) for one in imported.errors
        )
        found: tuple[tuple[Any, ...], ...] = (imported.pairs, problems, imported.joined)
        for kind, values in zip(RECORD_TYPES, found, strict=True):
            for start in range(0, len(values), RECORDS_PER_LINE):
                batch = [astuple(one) for one in values[start : start + RECORDS_PER_LINE]]
                file.write(json.dumps([kind, batch]) + "\n")


def read_batches(out: Path) -> Generator[tuple[str, list[Any]]]:
    """The kinds and records that `write_result` wrote, in batches that take 1 to 2 ms to build."""
    with out.open(encoding="utf-8") as lines:
        for line in lines:
            kind, values = json.loads(line)
            make = RECORD_TYPES.get(kind)
            yield kind, [make(*one) for one in values] if make else values


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the cyclic garbage collector, which would scan all the new objects again and again
    and block the event loop."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


if __name__ == "__main__":
    main()

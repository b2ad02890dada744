"""The child process that reads one file: `python -m data.formats.sandbox_child PATH OUT NAME`.

Writes JSON lines. To stdout: {"rows": N} as progress, or {"refused": sentence} instead of a result.
To OUT: ["rows", [N]], then [kind, records] with a kind of `RECORD_TYPES`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
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
"""Records on a line of OUT."""


def _problem(row: int, reason: str, sheet: str) -> RowError:
    return RowError(row, deserialize_phrase(reason), sheet)


RECORD_TYPES: dict[str, Callable[..., Any]] = {
    "pair": Pair,
    "problem": _problem,
    "joined": JoinedText,
}


def main() -> None:
    path, out, name = sys.argv[1:]
    for one in FORMATS:
        one.codec()  # before the limit: numpy, which openpyxl imports, reserves address space
    limit_memory(MAX_MEMORY_BYTES)
    gc.disable()  # reading makes no reference cycles
    lower_priority()
    try:
        write_result(
            read_pairs(Path(path), name=name, on_progress=lambda rows: emit_event(rows=rows)),
            Path(out),
        )
    except ImportRefused as e:
        emit_event(refused=serialize_phrase(e.args[0]))
    except MemoryError:
        emit_event(refused=serialize_phrase(out_of_memory_message(name)))


def out_of_memory_message(name: str) -> str:
    return phrase(
        "{name} needs more memory than an import may have: split it into parts.", name=name
    )


def limit_memory(size: int) -> None:
    """Allow `size` bytes beyond what is in use, on systems that have such a limit."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    size += psutil.Process().memory_info().vms
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > size:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (size, hard))
        except (OSError, ValueError):  # macOS has the limit but refuses to set it
            return


def lower_priority() -> None:
    """The bot, which is answering people, gets the CPU first."""
    if hasattr(os, "nice"):
        os.nice(10)


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
    """What `write_result` wrote: kinds and records, in batches that take 1 to 2 ms to build."""
    with out.open(encoding="utf-8") as lines:
        for line in lines:
            kind, values = json.loads(line)
            make = RECORD_TYPES.get(kind)
            yield kind, [make(*one) for one in values] if make else values


@contextmanager
def gc_paused() -> Iterator[None]:
    """Turn the cyclic garbage collector off: with so many new objects each pass of it would stop
    every thread, and the event loop, for long."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


if __name__ == "__main__":
    main()

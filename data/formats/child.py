"""Reads a file of pairs in a process of its own: `python -m data.formats.child PATH OUT [NAME]`.

On stdout are JSON lines: {"rows": N} as it goes, or {"refused": sentence} instead of a result. OUT
gets JSON lines: {"rows": N}, then ["pair" | "problem" | "joined", values...].
Knows the lines that it writes and what memory it may have. Does not know who started it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psutil

from data.errors import ImportRefused
from data.formats.imported import Imported, Joined, Problem
from data.formats.reading import read
from data.schema import Pair

MAX_MEMORY = 2**30
"""Bytes of address space that reading may take, where the system can limit it."""
RECORDS: dict[str, type[Any]] = {"pair": Pair, "problem": Problem, "joined": Joined}
TOO_BIG = "{name} needs more memory than an import may have: split it into parts."


def main() -> None:
    path, out, *names = sys.argv[1:]
    name = names[0] if names else Path(path).name
    limit_memory(MAX_MEMORY)
    gc.disable()  # reading makes no cycles
    yield_to_others()
    try:
        save(read(Path(path), name=name, progress=lambda rows: tell(rows=rows)), Path(out))
    except ImportRefused as e:
        tell(refused=str(e))
    except MemoryError:
        tell(refused=TOO_BIG.format(name=name))


def limit_memory(size: int) -> None:
    """Allow that much beside what is in use; what the system cannot do is left undone."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    size += psutil.Process().memory_info().vms
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > size:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (size, hard))
        except (OSError, ValueError):  # macOS has the limit but does not let it be set
            return


def yield_to_others() -> None:
    """The bot that answers people comes first."""
    if hasattr(os, "nice"):
        os.nice(10)


def tell(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def save(imported: Imported, out: Path) -> None:
    with out.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"rows": imported.rows}) + "\n")
        for kind in RECORDS:
            for one in getattr(imported, kind if kind == "joined" else f"{kind}s"):
                file.write(json.dumps([kind, *astuple(one)]) + "\n")


@contextmanager
def without_collections() -> Iterator[None]:
    """No cyclic garbage is looked for: each look at so many new values stops every thread."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load(out: Path) -> Imported:
    """What `save` wrote."""
    with without_collections():
        return _load(out)


def _load(out: Path) -> Imported:
    found: dict[str, list[Any]] = {kind: [] for kind in RECORDS}
    with out.open(encoding="utf-8") as lines:
        rows = json.loads(next(lines))["rows"]
        for line in lines:
            kind, *values = json.loads(line)
            found[kind].append(RECORDS[kind](*values))
    return Imported(
        tuple(found["pair"]), tuple(found["problem"]), tuple(found["joined"]), int(rows)
    )


if __name__ == "__main__":
    main()

"""How a benchmark of one measurement is run: in a folder of its own, as a table or as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

Say = Callable[[str], None]
"""Tells how far it has come; beside JSON, on stderr."""


def run_measurement(
    measure: Callable[[Path, Say], Coroutine[Any, Any, dict[str, Any]]],
    print_table: Callable[[dict[str, Any]], None],
    *,
    as_json: bool,
) -> None:
    """Measure in a temporary folder, and print the result."""
    say = partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    with tempfile.TemporaryDirectory() as folder, _beside_json() if as_json else nullcontext():
        result = asyncio.run(measure(Path(folder), say))
    if as_json:
        print(json.dumps(result))
    else:
        print_table(result)


@contextmanager
def _beside_json() -> Iterator[None]:
    """What children print, such as Ray's processes, goes to stderr meanwhile."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)

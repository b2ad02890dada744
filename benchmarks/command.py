"""How a benchmark of one measurement is run: in a folder of its own, as a table or as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from core.subprocesses import own_stdout

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
    out = own_stdout() if as_json else sys.stdout
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(Path(folder), say))
    if as_json:
        print(json.dumps(result), file=out)
    else:
        print_table(result)

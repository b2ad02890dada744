"""Reads, writes and annotates files of pairs in the format that the file's name says.

Knows no format itself: see `data.formats.registry`. An invalid row does not stop the valid ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from core.files import write_atomically
from core.records import Pair
from data.formats.import_result import (
    ImportBuilder,
    ImportResult,
    OnProgress,
    RowError,
    ignore_progress,
)
from data.formats.registry import MAX_FILE_BYTES, format_of, sniff_format
from data.formats.texts import pair_error, strip_pair
from i18n.reader import say


def read_pairs(
    path: Path,
    *,
    name: str | None = None,
    on_progress: OnProgress = ignore_progress,
    max_bytes: int = MAX_FILE_BYTES,
    max_chars: int | None = None,
) -> ImportResult:
    """Read the pairs of a file, in order.

    `name` is the name of the uploaded file, if the path has another. `on_progress` gets the number
    of rows read so far.

    Raises:
        ImportRefused: it cannot be read, or its content doesn't match its name.
    """
    name = name or path.name
    into = ImportBuilder(on_progress, max_chars)
    sniff_format(path, name, max_bytes).codec().read(path, name, into)
    return into.build()


def write_pairs(pairs: Iterable[Pair], path: Path) -> int:
    """Write a file in the format that the path's suffix names; return the number of its pairs.

    Texts are stripped, and pairs that reading would refuse are left out.

    Raises:
        ImportRefused: the suffix names no format.
        DiskFull, StoreError: it could not be written.
    """
    kept = [pair for pair in map(strip_pair, pairs) if not pair_error(pair)]
    write_atomically(path, format_of(path.name).codec().encode(kept))
    return len(kept)


def write_annotated_copy(
    path: Path,
    errors: Iterable[RowError],
    out: Path,
    *,
    name: str | None = None,
    max_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Write a copy of a file in which each invalid row has the reason beside it.

    Workbooks and CSV keep all of their content and get a last column, “problem”, which reading
    ignores. Copies of other files are JSON lines of the invalid records only: {"row", "problem",
    "record"}. `out` should have the format's `annotated_suffix`.

    Raises:
        ImportRefused: the file cannot be read.
        DiskFull, StoreError: the copy could not be written.
    """
    name = name or path.name
    codec = sniff_format(path, name, max_bytes).codec()
    problems: dict[str, dict[int, str]] = {}
    for one in errors:
        rows = problems.setdefault(one.sheet, {})
        rows[one.row] = " ".join(filter(None, (rows.get(one.row), say(one.reason))))
    write_atomically(out, codec.annotate(path, name, problems))

"""Reads, writes and annotates files of pairs, in whatever format their names say.

Knows no format itself: see `data.formats.registry`. A wrong row never holds up the good ones; a
file that cannot be read gives nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from core.errors import write_error
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
) -> ImportResult:
    """The pairs of a file, in its order.

    `name` is the file's name as a person knows it, if it is not the path's. `on_progress` gets the
    number of rows read so far.

    Raises:
        ImportRefused: it cannot be read, or not as what its name says; the sentence says why.
    """
    name = name or path.name
    into = ImportBuilder(on_progress)
    sniff_format(path, name, max_bytes).codec().read(path, name, into)
    return into.build()


def write_pairs(pairs: Iterable[Pair], path: Path) -> int:
    """Write a file in the format that the path's suffix names; return how many pairs are in it.

    Texts are stripped, as reading does, and pairs that reading would refuse (no text on one side,
    or too long) are left out. The file appears complete or not at all.

    Raises:
        ImportRefused: the suffix names no format.
        DiskFull, StoreError: it could not be written.
    """
    codec = format_of(path.name).codec()
    kept = [pair for pair in map(strip_pair, pairs) if not pair_error(pair)]
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(codec.encode(kept))
        partial.replace(path)
    except OSError as e:
        partial.unlink(missing_ok=True)
        raise write_error(path.name, e) from e
    return len(kept)


def write_annotated_copy(
    path: Path,
    errors: Iterable[RowError],
    out: Path,
    *,
    name: str | None = None,
    max_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Write a copy of a file in which each wrong row has the reason beside it.

    Workbooks and CSV keep everything that they hold and get a last column, headed “problem”, which
    reading ignores. Copies of other files are JSON lines of the wrong records alone: {"row",
    "problem", "record"}. `out` should have the format's `annotated_suffix`.

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
    content = codec.annotate(path, name, problems)
    try:
        out.write_bytes(content)
    except OSError as e:
        raise write_error(out.name, e) from e

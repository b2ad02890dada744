"""Writes pairs as a file that `read` takes in again exactly.

The same pairs give the same bytes. Knows which module writes which kind. Texts are stripped, as
reading does; a pair that reading would refuse (no text on one side, or too long) is left out. Line
breaks in a text are kept: in tables by “keep” in the column `lines`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import write_error
from core.records import Pair
from data.formats.chatterbot_yaml import corpus_lines
from data.formats.columns import Field
from data.formats.delimited import escape_formula
from data.formats.registry import FileFormat, format_of
from data.formats.texts import has_line_breaks, pair_error, strip_pair
from data.formats.xlsx.writer import build_workbook

KEEP_LINES_MARK = "keep"
COLUMNS = (Field.USER, Field.BOT, Field.CONVERSATION, Field.TURN, Field.SOURCE)


def write_pairs(pairs: Iterable[Pair], path: Path) -> int:
    """Write a file of the kind that the path's ending names; how many pairs are in it.

    It appears whole or not at all.

    Raises:
        ImportRefused: the ending names no kind.
        DiskFull, StoreError: it could not be written.
    """
    kind = format_of(path.name)
    kept = [pair for pair in map(strip_pair, pairs) if not pair_error(pair)]
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(_WRITERS[kind](kept))
        partial.replace(path)
    except OSError as e:
        partial.unlink(missing_ok=True)
        raise write_error(path.name, e) from e
    return len(kept)


def _table(pairs: Sequence[Pair]) -> Iterator[Sequence[str | int]]:
    """Rows with headings; the column `lines` only where a text needs it."""
    with_lines = any(_has_lines(pair) for pair in pairs)
    yield (*COLUMNS, Field.LINES) if with_lines else COLUMNS
    for pair in pairs:
        row = (pair.user, pair.bot, pair.conversation, pair.turn or "", pair.source)
        yield (*row, KEEP_LINES_MARK if _has_lines(pair) else "") if with_lines else row


def _has_lines(pair: Pair) -> bool:
    return has_line_breaks(pair.user) or has_line_breaks(pair.bot)


def _csv(pairs: Sequence[Pair]) -> bytes:
    file = io.StringIO(newline="")
    rows = csv.writer(file)
    for row in _table(pairs):
        rows.writerow([escape_formula(str(cell)) for cell in row])
    return file.getvalue().encode("utf-8-sig")


def _record(pair: Pair) -> str:
    record: dict[str, Any] = {"user": pair.user, "bot": pair.bot}
    for key in ("conversation", "turn", "source"):
        if value := getattr(pair, key):
            record[key] = value
    return json.dumps(record, ensure_ascii=False)


def _json(pairs: Sequence[Pair]) -> bytes:
    return ("[\n" + ",\n".join(map(_record, pairs)) + "\n]\n").encode()


def _jsonl(pairs: Sequence[Pair]) -> bytes:
    return "".join(_record(pair) + "\n" for pair in pairs).encode()


_WRITERS: dict[FileFormat, Callable[[Sequence[Pair]], bytes]] = {
    FileFormat.XLSX: lambda pairs: build_workbook(_table(pairs)),
    FileFormat.CSV: _csv,
    FileFormat.JSON: _json,
    FileFormat.JSONL: _jsonl,
    FileFormat.YAML: lambda pairs: "".join(corpus_lines(pairs)).encode(),
}

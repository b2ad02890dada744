"""A copy of a file in which each wrong row has the reason beside it.

Workbooks and CSV keep all that they hold; the reason is in a new last column, headed “problem”,
which reading ignores. Of other files the copy is JSON lines of the wrong records alone:
{"row", "problem", "record"}.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import write_error
from data.formats.columns import PROBLEM_PREFIX, Field, Layout
from data.formats.delimited import raw_rows, sniff_delimiter
from data.formats.encodings import decode
from data.formats.import_result import RowError
from data.formats.reader import csv_layout, json_records, sheet_layouts
from data.formats.registry import MAX_FILE_BYTES, FileFormat, sniff_format
from data.formats.xlsx.package import wrap_package_errors
from data.formats.xlsx.splice import add_cells, add_fill
from data.formats.xlsx.workbook import open_workbook
from i18n.reader import say


def write_annotated_copy(
    path: Path,
    errors: Iterable[RowError],
    out: Path,
    *,
    name: str | None = None,
    max_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Write the copy to `out`, which should end as `annotated_format` says.

    Raises:
        ImportRefused: the file cannot be read.
        DiskFull, StoreError: the copy could not be written.
    """
    name = name or path.name
    kind = sniff_format(path, name, max_bytes)
    reasons: dict[str, dict[int, str]] = {}
    for one in errors:
        of_sheet = reasons.setdefault(one.sheet, {})
        of_sheet[one.row] = " ".join(filter(None, (of_sheet.get(one.row), say(one.reason))))
    if kind is FileFormat.XLSX:
        content = _workbook(path, name, reasons)
    else:
        text = decode(path.read_bytes(), name)
        of_rows = reasons.get("", {})
        marked = (
            _csv(text, of_rows) if kind is FileFormat.CSV else _records(kind, text, name, of_rows)
        )
        content = marked.encode("utf-8", "surrogateescape")
    try:
        out.write_bytes(content)
    except OSError as e:
        raise write_error(out.name, e) from e


def _with_heading(reasons: Mapping[int, str], layout: Layout) -> dict[int, str]:
    """With the heading; where the first row is no heading, it says that the column is ours."""
    reason = reasons.get(layout.first_row)
    return {**reasons, layout.first_row: PROBLEM_PREFIX + reason if reason else str(Field.PROBLEM)}


def _workbook(path: Path, name: str, reasons: Mapping[str, Mapping[int, str]]) -> bytes:
    file = io.BytesIO()
    with (
        open_workbook(path, name) as book,
        wrap_package_errors(name),
        zipfile.ZipFile(file, "w") as package,
    ):
        layouts = sheet_layouts(book)
        changed: dict[str, bytes] = {}
        style = None
        if book.styles_part:
            changed[book.styles_part], style = add_fill(book.package.read(book.styles_part))
        for sheet in book.sheets:
            if of_sheet := reasons.get(sheet.title):
                texts = _with_heading(of_sheet, layouts[sheet]) if sheet in layouts else of_sheet
                changed[sheet.part] = add_cells(book.package.read(sheet.part), texts, style)
        for part in book.package.infolist():
            content = changed.get(part.filename)
            package.writestr(part, book.package.read(part) if content is None else content)
    return file.getvalue()


def _csv(text: str, reasons: Mapping[int, str]) -> str:
    delimiter = sniff_delimiter(text)
    texts = _with_heading(reasons, csv_layout(text, delimiter))
    rows = list(raw_rows(text, delimiter))
    width = max((len(row) for row in rows), default=0)
    file = io.StringIO(newline="")
    file.write("\ufeff")  # so that Excel takes it for UTF-8
    writer = csv.writer(file, delimiter=delimiter)
    for number, row in enumerate(rows, 1):
        padding = [""] * (width - len(row))
        writer.writerow([*row, *padding, texts[number]] if number in texts else row)
    return file.getvalue()


def _records(kind: FileFormat, text: str, name: str, reasons: Mapping[int, str]) -> str:
    return "".join(
        json.dumps({"row": row, "problem": reasons[row], "record": record}, ensure_ascii=False)
        + "\n"
        for row, record in _numbered(kind, text, name)
        if row in reasons
    )


def _numbered(kind: FileFormat, text: str, name: str) -> Iterator[tuple[int, Any]]:
    """Records as they are in the file; of YAML and JSON lines, the lines."""
    if kind is FileFormat.JSON:
        yield from enumerate(json_records(text, name), 1)
    else:
        yield from enumerate(text.split("\n"), 1)

"""Reads a file of pairs, of whatever kind.

Knows which module reads which kind, and how a workbook's sheets become tables. Wrong rows never
hold up good ones; a file that cannot be read gives nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from core.errors import ImportRefused
from data.formats.chatterbot_yaml import read_corpus
from data.formats.columns import (
    HEADER_SEARCH_ROWS,
    Field,
    Layout,
    default_layout,
    layout_from_header,
)
from data.formats.delimited import UNCLOSED_QUOTE, parse_rows, sniff_delimiter
from data.formats.encodings import decode
from data.formats.import_result import (
    ImportBuilder,
    ImportResult,
    IsCancelled,
    OnProgress,
    ignore_progress,
    never_cancelled,
)
from data.formats.json_records import read_record
from data.formats.registry import MAX_FILE_BYTES, FileFormat, sniff_format
from data.formats.table import Cell, CellError, read_table
from data.formats.xlsx.cells import MergedRange, SheetRow
from data.formats.xlsx.workbook import Sheet, XlsxWorkbook, open_workbook
from i18n.phrase import phrase

SKIP_SHEET_MARKER = "not imported"
"""A sheet with this in its name is left out."""


def read_pairs(
    path: Path,
    *,
    name: str | None = None,
    is_cancelled: IsCancelled = never_cancelled,
    on_progress: OnProgress = ignore_progress,
    max_bytes: int = MAX_FILE_BYTES,
) -> ImportResult:
    """The pairs of a file, in its order.

    `name` is the file's name as a person knows it, if it is not the path's. `on_progress` is told
    how many rows were read.

    Raises:
        ImportRefused: it cannot be read, or not as what its name says; the sentence says why.
        ImportCancelled: `is_cancelled` returned True.
    """
    name = name or path.name
    kind = sniff_format(path, name, max_bytes)
    into = ImportBuilder(is_cancelled, on_progress)
    if kind is FileFormat.XLSX:
        with open_workbook(path, name) as workbook:
            _read_workbook(workbook, into)
    else:
        _READERS[kind](decode(path.read_bytes(), name), name, into)
    return into.build()


def _read_workbook(workbook: XlsxWorkbook, into: ImportBuilder) -> None:
    samples = _samples(workbook)
    layouts = _layouts(samples)
    for sheet in _importable_sheets(workbook):
        into.sheet = sheet.title
        layout = layouts.get(sheet)
        if layout:
            _read_sheet(workbook, sheet, layout, into)
        elif sample := samples[sheet]:
            number = sample[0][0]
            into.add_error(
                number, phrase("This sheet has no headings “user” and “bot”: it was left out.")
            )


def _importable_sheets(workbook: XlsxWorkbook) -> list[Sheet]:
    """The sheets that are not marked as not to import."""
    return [one for one in workbook.sheets if SKIP_SHEET_MARKER not in one.title.casefold()]


def sheet_layouts(workbook: XlsxWorkbook) -> dict[Sheet, Layout]:
    """How the sheets that are read are laid out: those with headings, or else the first with
    anything on it."""
    return _layouts(_samples(workbook))


SampleRows = list[tuple[int, list[str]]]


def _samples(workbook: XlsxWorkbook) -> dict[Sheet, SampleRows]:
    samples = {}
    for sheet in _importable_sheets(workbook):
        with closing(workbook.rows(sheet)) as rows:
            samples[sheet] = _sample(rows)
    return samples


def _layouts(samples: dict[Sheet, SampleRows]) -> dict[Sheet, Layout]:
    headed = {sheet: layout_from_header(sample) for sheet, sample in samples.items()}
    layouts = {sheet: layout for sheet, layout in headed.items() if layout}
    filled = (sheet for sheet, sample in samples.items() if sample)
    if not layouts and (first := next(filled, None)):
        return {first: default_layout(samples[first])}
    return layouts


def _sample(rows: Iterable[tuple[int, Sequence[Cell]]]) -> SampleRows:
    texts = (
        (n, ["?" if isinstance(one, CellError) else one for one in cells]) for n, cells in rows
    )
    return list(
        islice(((n, cells) for n, cells in texts if any(map(str.strip, cells))), HEADER_SEARCH_ROWS)
    )


def _read_sheet(workbook: XlsxWorkbook, sheet: Sheet, layout: Layout, into: ImportBuilder) -> None:
    merges = workbook.merged_ranges(sheet)
    with closing(workbook.rows(sheet)) as rows:
        read_table(_fill_merged_cells(rows, merges, layout) if merges else rows, layout, into)


def _fill_merged_cells(
    rows: Iterable[SheetRow], merges: Sequence[MergedRange], layout: Layout
) -> Iterator[SheetRow]:
    """The rows, where a cell that is merged over several rows names the conversation or the source
    of all of them. A text that is merged over the user's and the bot's columns is a title."""
    down = {(one.top, one.left - 1): one.bottom for one in merges if one.bottom > one.top}
    titles = {one.top: one.left - 1 for one in merges if _spans_both_speakers(one, layout)}
    named = [
        column
        for column, field in enumerate(layout.fields)
        if field in (Field.CONVERSATION, Field.SOURCE)
    ]
    held: dict[int, tuple[int, Cell]] = {}
    for number, cells in rows:
        for column in named:
            last = down.get((number, column))
            if last and column < len(cells):
                held[column] = (last, cells[column])
            until, cell = held.get(column, (0, ""))
            if number <= until:
                cells += [""] * (column + 1 - len(cells))
                cells[column] = cell
        if number in titles and len(cells) > titles[number] and cells[titles[number]]:
            cells[titles[number]] = CellError(
                phrase("A cell is merged over the user's and the bot's columns.")
            )
        yield number, cells


def _spans_both_speakers(merge: MergedRange, layout: Layout) -> bool:
    covered = {layout.field_at(column) for column in range(merge.left - 1, merge.right)}
    return {Field.USER, Field.BOT} <= covered


def _read_csv(text: str, name: str, into: ImportBuilder) -> None:
    delimiter = sniff_delimiter(text)
    layout = csv_layout(text, delimiter)
    read_table(_whole_rows(text, delimiter, into), layout, into)


def csv_layout(text: str, delimiter: str) -> Layout:
    sample = _sample((n, cells or []) for n, cells in parse_rows(text, delimiter))
    return layout_from_header(sample) or default_layout(sample)


def _whole_rows(
    text: str, delimiter: str, into: ImportBuilder
) -> Iterator[tuple[int, Sequence[str]]]:
    for number, cells in parse_rows(text, delimiter):
        if cells is None:
            into.add_error(number, UNCLOSED_QUOTE)
        else:
            yield number, cells


def _read_json(text: str, name: str, into: ImportBuilder) -> None:
    for number, record in into.count_rows(enumerate(json_records(text, name), 1)):
        read_record(number, record, name, into)


def json_records(text: str, name: str) -> list[Any]:
    """The list that the text is.

    Raises:
        ImportRefused: it is none.
    """
    try:
        records = json.loads(text)
    except json.JSONDecodeError as e:
        raise ImportRefused(
            phrase(
                "{name} is no JSON: there is a mistake in line {line}, column {column}.",
                name=name,
                line=e.lineno,
                column=e.colno,
            )
        ) from e
    except (RecursionError, ValueError) as e:
        raise ImportRefused(
            phrase("{name} is nested too deep, or has a number too long.", name=name)
        ) from e
    if not isinstance(records, list):
        raise ImportRefused(phrase('{name} must be a list of {{"user": …, "bot": …}}.', name=name))
    return records


def _read_jsonl(text: str, name: str, into: ImportBuilder) -> None:
    lines = ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())
    for number, line in into.count_rows(lines):
        try:
            record = json.loads(line)
        except (RecursionError, ValueError):
            into.add_error(number, phrase("This line is no JSON."))
        else:
            read_record(number, record, name, into)


_READERS = {
    FileFormat.CSV: _read_csv,
    FileFormat.JSON: _read_json,
    FileFormat.JSONL: _read_jsonl,
    FileFormat.YAML: read_corpus,
}

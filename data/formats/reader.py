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
from data.formats.columns import LOOKED_AT, Field, Layout, by_headings, without_headings
from data.formats.delimited import UNCLOSED, delimiter_of, rows_of
from data.formats.encodings import decode
from data.formats.import_result import Cancelled, Gathering, Imported, Progress, ignore, never
from data.formats.json_records import read_record
from data.formats.registry import MAX_BYTES, Kind, recognise
from data.formats.table import Cell, Flaw, read_table
from data.formats.xlsx.cells import Merge, Row
from data.formats.xlsx.workbook import Sheet, Workbook, open_workbook
from i18n.phrase import phrase

NOT_IMPORTED = "not imported"
"""A sheet with this in its name is left out."""


def read(
    path: Path,
    *,
    name: str | None = None,
    cancelled: Cancelled = never,
    progress: Progress = ignore,
    max_bytes: int = MAX_BYTES,
) -> Imported:
    """The pairs of a file, in its order.

    `name` is the file's name as a person knows it, if it is not the path's. `progress` is told how
    many rows were read.

    Raises:
        ImportRefused: it cannot be read, or not as what its name says; the sentence says why.
        ImportCancelled: `cancelled` returned True.
    """
    name = name or path.name
    kind = recognise(path, name, max_bytes)
    into = Gathering(cancelled, progress)
    if kind is Kind.XLSX:
        with open_workbook(path, name) as workbook:
            _read_workbook(workbook, into)
    else:
        _READERS[kind](decode(path.read_bytes(), name), name, into)
    return into.done()


def _read_workbook(workbook: Workbook, into: Gathering) -> None:
    samples = _samples(workbook)
    layouts = _layouts(samples)
    for sheet in _wanted(workbook):
        into.sheet = sheet.title
        layout = layouts.get(sheet)
        if layout:
            _read_sheet(workbook, sheet, layout, into)
        elif sample := samples[sheet]:
            number = sample[0][0]
            into.wrong(
                number, phrase("This sheet has no headings “user” and “bot”: it was left out.")
            )


def _wanted(workbook: Workbook) -> list[Sheet]:
    """The sheets that are not marked as not to import."""
    return [one for one in workbook.sheets if NOT_IMPORTED not in one.title.casefold()]


def sheet_layouts(workbook: Workbook) -> dict[Sheet, Layout]:
    """How the sheets that are read are laid out: those with headings, or else the first with
    anything on it."""
    return _layouts(_samples(workbook))


Sample = list[tuple[int, list[str]]]


def _samples(workbook: Workbook) -> dict[Sheet, Sample]:
    samples = {}
    for sheet in _wanted(workbook):
        with closing(workbook.rows(sheet)) as rows:
            samples[sheet] = _sample(rows)
    return samples


def _layouts(samples: dict[Sheet, Sample]) -> dict[Sheet, Layout]:
    headed = {sheet: by_headings(sample) for sheet, sample in samples.items()}
    layouts = {sheet: layout for sheet, layout in headed.items() if layout}
    filled = (sheet for sheet, sample in samples.items() if sample)
    if not layouts and (first := next(filled, None)):
        return {first: without_headings(samples[first])}
    return layouts


def _sample(rows: Iterable[tuple[int, Sequence[Cell]]]) -> Sample:
    texts = ((n, ["?" if isinstance(one, Flaw) else one for one in cells]) for n, cells in rows)
    return list(islice(((n, cells) for n, cells in texts if any(map(str.strip, cells))), LOOKED_AT))


def _read_sheet(workbook: Workbook, sheet: Sheet, layout: Layout, into: Gathering) -> None:
    merges = workbook.merges(sheet)
    with closing(workbook.rows(sheet)) as rows:
        read_table(_with_merged(rows, merges, layout) if merges else rows, layout, into)


def _with_merged(rows: Iterable[Row], merges: Sequence[Merge], layout: Layout) -> Iterator[Row]:
    """The rows, where a cell that is merged over several rows names the conversation or the source
    of all of them. A text that is merged over the user's and the bot's columns is a title."""
    down = {(one.top, one.left - 1): one.bottom for one in merges if one.bottom > one.top}
    titles = {one.top: one.left - 1 for one in merges if _is_title(one, layout)}
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
            cells[titles[number]] = Flaw(
                phrase("A cell is merged over the user's and the bot's columns.")
            )
        yield number, cells


def _is_title(merge: Merge, layout: Layout) -> bool:
    covered = {layout.of(column) for column in range(merge.left - 1, merge.right)}
    return {Field.USER, Field.BOT} <= covered


def _read_csv(text: str, name: str, into: Gathering) -> None:
    delimiter = delimiter_of(text)
    layout = csv_layout(text, delimiter)
    read_table(_whole_rows(text, delimiter, into), layout, into)


def csv_layout(text: str, delimiter: str) -> Layout:
    sample = _sample((n, cells or []) for n, cells in rows_of(text, delimiter))
    return by_headings(sample) or without_headings(sample)


def _whole_rows(text: str, delimiter: str, into: Gathering) -> Iterator[tuple[int, Sequence[str]]]:
    for number, cells in rows_of(text, delimiter):
        if cells is None:
            into.wrong(number, UNCLOSED)
        else:
            yield number, cells


def _read_json(text: str, name: str, into: Gathering) -> None:
    for number, record in into.counted(enumerate(json_records(text, name), 1)):
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


def _read_jsonl(text: str, name: str, into: Gathering) -> None:
    lines = ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())
    for number, line in into.counted(lines):
        try:
            record = json.loads(line)
        except (RecursionError, ValueError):
            into.wrong(number, phrase("This line is no JSON."))
        else:
            read_record(number, record, name, into)


_READERS = {
    Kind.CSV: _read_csv,
    Kind.JSON: _read_json,
    Kind.JSONL: _read_jsonl,
    Kind.YAML: read_corpus,
}

"""Workbooks as files of pairs: which sheets are read, and how merged cells are treated."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from core.errors import ImportRefused
from core.records import Pair
from data.formats.columns import Layout, SampleRows, default_layout, layout_from_header
from data.formats.headings import Field
from data.formats.import_result import ImportBuilder
from data.formats.registry import Problems
from data.formats.table import Cell, CellError, problem_column, read_table, sample_rows, table_rows
from data.formats.xlsx.cells import Hidden, MergedRange, SheetRow
from data.formats.xlsx.package import wrap_package_errors
from data.formats.xlsx.splice import add_cells, add_fill
from data.formats.xlsx.workbook import Sheet, XlsxWorkbook, open_workbook
from data.formats.xlsx.writer import build_workbook
from i18n.phrase import phrase

SKIP_SHEET_MARKER = "not imported"
"""A sheet with this in its name is left out."""


def read(path: Path, name: str, into: ImportBuilder) -> None:
    with open_workbook(path, name) as workbook:
        samples = _samples(workbook)
        layouts = _layouts(samples, name)
        for title in workbook.missing:
            into.add_note(
                phrase(
                    "The sheet “{sheet}” is listed in the workbook, but its content is missing.",
                    sheet=title,
                )
            )
        for sheet, sample in samples.items():
            into.sheet = sheet.title
            if layout := layouts.get(sheet):
                _read_sheet(workbook, sheet, layout, into)
            elif sample:
                reason = phrase("This sheet has no headings “user” and “bot”: it was left out.")
                into.add_error(sample[0][0], reason)


def encode(pairs: Sequence[Pair]) -> bytes:
    return build_workbook(table_rows(pairs))


def annotate(path: Path, name: str, problems: Problems) -> bytes:
    file = io.BytesIO()
    with (
        open_workbook(path, name) as book,
        wrap_package_errors(name),
        zipfile.ZipFile(file, "w") as package,
    ):
        parts = book.package.zip
        layouts = _layouts(_samples(book), name)
        changed: dict[str, bytes] = {}
        style = None
        if book.styles_part:
            changed[book.styles_part], style = add_fill(parts.read(book.styles_part))
        for sheet in book.sheets:
            if reasons := problems.get(sheet.title):
                layout = layouts.get(sheet)
                cells = problem_column(reasons, layout) if layout else reasons
                changed[sheet.part] = add_cells(parts.read(sheet.part), cells, style)
        for part in parts.infolist():
            content = changed.get(part.filename)
            package.writestr(part, parts.read(part) if content is None else content)
    return file.getvalue()


def _samples(workbook: XlsxWorkbook) -> dict[Sheet, SampleRows]:
    """The sheets that are not marked to be skipped, with their first rows."""
    samples: dict[Sheet, SampleRows] = {}
    for sheet in workbook.sheets:
        if SKIP_SHEET_MARKER not in sheet.title.casefold():
            with closing(workbook.rows(sheet)) as rows:
                samples[sheet] = sample_rows(rows)
    return samples


def _layouts(samples: dict[Sheet, SampleRows], name: str) -> dict[Sheet, Layout]:
    """The layouts of the sheets to read: those with headings, or else the first non-empty one.

    Raises:
        ImportRefused: none has headings, and one has some that cannot be right.
    """
    layouts: dict[Sheet, Layout] = {}
    refused: ImportRefused | None = None
    for sheet, sample in samples.items():
        try:
            if layout := layout_from_header(sample, name):
                layouts[sheet] = layout
        except ImportRefused as e:
            refused = refused or e
    if layouts:
        return layouts
    if refused:
        raise refused
    filled = (sheet for sheet, sample in samples.items() if sample)
    first = next(filled, None)
    return {first: default_layout(samples[first])} if first else {}


def _read_sheet(workbook: XlsxWorkbook, sheet: Sheet, layout: Layout, into: ImportBuilder) -> None:
    merges = workbook.merged_ranges(sheet)
    hidden = Hidden()
    with closing(workbook.rows(sheet, hidden)) as rows:
        read_table(_fill_merged_cells(rows, merges, layout) if merges else rows, layout, into)
    _note_hidden(sheet.title, hidden, into)


def _note_hidden(sheet: str, hidden: Hidden, into: ImportBuilder) -> None:
    if rows := hidden.rows:
        into.add_note(
            phrase(
                "Hidden rows of the sheet “{sheet}” that were left out: {number:,}.",
                sheet=sheet,
                number=rows,
            )
        )
    if columns := len(hidden.columns):
        into.add_note(
            phrase(
                "Hidden columns of the sheet “{sheet}” that were left out: {number:,}.",
                sheet=sheet,
                number=columns,
            )
        )


def _fill_merged_cells(
    rows: Iterable[SheetRow], merges: Sequence[MergedRange], layout: Layout
) -> Iterator[SheetRow]:
    """The rows, with a merged conversation or source repeated in each row that it covers.

    A merged utterance is not repeated. A cell that spans both speakers' columns is an error.
    """
    down = {(one.top, one.left - 1): one.bottom for one in merges if one.bottom > one.top}
    titles = {one.top: one.left - 1 for one in merges if _spans_both_speakers(one, layout)}
    repeated = [
        column
        for column, field in enumerate(layout.fields)
        if field in (Field.CONVERSATION, Field.SOURCE)
    ]
    held: dict[int, tuple[int, Cell]] = {}
    for number, cells in rows:
        for column in repeated:
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

"""Files of pairs in the terminal: check, convert, import and export. Overwrites no file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

from bot.ops.recovery import existing_database
from bot.settings import SettingsError, load_settings
from core.errors import ImportRefused
from core.records import IMPORT_SOURCE, OPERATOR_AUTHOR_ID, Pair
from core.texts import one_line
from data.dataset.snapshot import as_pairs
from data.formats.files import read_pairs, write_annotated_copy, write_pairs
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.registry import XLSX, annotated_suffix, format_of
from data.formats.xlsx.template import write_template_workbook
from data.storage.storage import open_storage
from i18n.phrase import phrase
from i18n.reader import say
from training.sources import MAX_BYTES

MAX_ROWS_SHOWN = 5
"""Rows shown of each kind of problem."""
MAX_TEXT_CHARS = 100
"""Characters shown of a text."""


def write_template(path: Path) -> None:
    """Write the workbook to fill in.

    Raises:
        SettingsError: the file exists, or is not named .xlsx.
        StoreError: it could not be written.
    """
    if format_of(path.name) is not XLSX:
        raise SettingsError(
            phrase("The template is a workbook: name it {name}.xlsx.", name=path.stem)
        )
    _check_new(path)
    write_template_workbook(path)
    print(
        say(
            "The template is in {path}. Fill it in, then run `gpt2bot dataset check {path}`.",
            path=path,
        )
    )


def check(path: Path) -> int:
    """Show what a file contains, and write an annotated copy if rows are invalid; the exit status.

    Raises:
        ImportRefused: it cannot be read.
        StoreError: the copy could not be written.
    """
    imported = _read(path)
    _print_counts(path, imported)
    _print_rows(say("Joined"), [(one, one.text) for one in imported.joined])
    _print_remarks(imported)
    if not imported.errors:
        if not (imported.pairs and imported.guesses):  # the remarks say more than “valid”
            print(say("Every row is valid.") if imported.pairs else say("It contains no pairs."))
        return 0 if imported.pairs else 1
    _print_errors(say("Invalid"), imported)
    copy = unused_path(path)
    write_annotated_copy(path, imported.errors, copy, max_bytes=MAX_BYTES)
    print(say("All of them are in {path}, with the reason beside each.", path=copy))
    return 1


def convert(path: Path, out: Path) -> None:
    """Write the pairs of a file in the format that the other file's name says.

    Raises:
        ImportRefused: the file cannot be read, or a suffix names no format.
        SettingsError: `out` exists.
        StoreError: it could not be written.
    """
    _check_new(out)
    _write(_read_valid(path).pairs, out)


def import_pairs(path: Path, server: int) -> None:
    """Add the pairs of a file to a server's data set, all or none of them.

    Raises:
        ImportRefused: it cannot be read, or has no headings and nobody confirms the guess.
        SettingsError: there is no database.
        StoreError: they could not be stored.
    """
    settings = load_settings()
    database = existing_database(settings)
    imported = _read_valid(path)
    if imported.guesses:
        _confirm_guess(path)
    pairs = imported.pairs

    async def add() -> tuple[int, int]:
        async with open_storage(database, key=settings.key) as storage:
            new = await storage.examples.add_pairs(server, pairs, OPERATOR_AUTHOR_ID, IMPORT_SOURCE)
            return new, await storage.examples.count(server)

    new, total = asyncio.run(add())
    text = say(
        "New pairs: {new:,} of {pairs:,}. Examples of server {server} now: {total:,}.",
        new=new,
        pairs=len(pairs),
        server=server,
        total=total,
    )
    print(text)


def export_pairs(out: Path, server: int) -> None:
    """Write the examples that a server's bot may learn now.

    Raises:
        ImportRefused: the file's suffix names no format.
        SettingsError: the file exists, or there is no database or nothing to learn.
        StoreError: the database cannot be read, or the file not written.
    """
    settings = load_settings()
    database = existing_database(settings)
    _check_new(out)

    async def learnable() -> list[Pair]:
        async with open_storage(
            database, key=settings.key, include_collected=settings.learn_from_chat
        ) as storage:
            return as_pairs(await storage.examples.trainable(server))

    pairs = asyncio.run(learnable())
    if not pairs:
        raise SettingsError(
            phrase("Server {server} has no examples that may be learned now.", server=server)
        )
    _write(pairs, out)


def _check_new(out: Path) -> None:
    """Refuse a name before the work begins: of no known format, taken, or in no folder."""
    format_of(out.name)
    if out.exists():
        raise SettingsError(phrase("{path} already exists: choose another name.", path=out))
    if not out.parent.is_dir():
        raise SettingsError(
            phrase("There is no folder {folder}: create it first.", folder=out.parent)
        )


def _write(pairs: Sequence[Pair], out: Path) -> None:
    print(say("Pairs written to {path}: {count:,}.", path=out, count=write_pairs(pairs, out)))


def _read(path: Path) -> ImportResult:
    """Read a file and show the progress."""
    console = Console()
    rows = TextColumn(say("reading: {count} rows", count="{task.completed:,.0f}"))
    with Progress(rows, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        return read_pairs(
            path, on_progress=lambda n: bar.update(task, completed=n), max_bytes=MAX_BYTES
        )


def _read_valid(path: Path) -> ImportResult:
    """A file with valid pairs; its invalid rows are shown.

    Raises:
        ImportRefused: it has no valid pair.
    """
    imported = _read(path)
    _print_errors(say("Skipped"), imported)
    if not imported.pairs:
        raise ImportRefused(phrase("{path} contains no pairs.", path=path))
    _print_remarks(imported)
    return imported


def _confirm_guess(path: Path) -> None:
    """Ask whether a table without headings was understood.

    Raises:
        ImportRefused: it was not, or nobody can be asked.
    """
    if sys.stdin.isatty() and typer.confirm(say("Import these pairs?")):
        return
    raise ImportRefused(
        phrase(
            "Nothing was imported: write “user” and “bot” above the columns of {path}.", path=path
        )
    )


def _print_counts(path: Path, imported: ImportResult) -> None:
    table = Table(title=path.name)
    table.add_column(say("in the file"))
    table.add_column(say("count"), justify="right")
    for name, number in (
        (say("rows"), imported.rows),
        (say("pairs"), len(imported.pairs)),
        (say("conversations"), len({one.conversation for one in imported.pairs} - {""})),
        (say("joined texts"), len(imported.joined)),
        (say("invalid rows"), len(imported.errors)),
    ):
        table.add_row(name, f"{number:,}")
    Console(markup=False, highlight=False, emoji=False).print(table)


def _print_errors(what: str, imported: ImportResult) -> None:
    _print_rows(what, [(one, say(one.reason)) for one in imported.errors])


def _print_remarks(imported: ImportResult) -> None:
    """What was left out though it is valid; and of a table without headings, its first pairs."""
    for sentence in (*imported.notes, *imported.guesses):
        print(say(sentence))
    for pair in imported.pairs[:MAX_ROWS_SHOWN] if imported.guesses else ():
        print(say("“{user}” → “{bot}”", user=_cut(pair.user), bot=_cut(pair.bot)))


def _print_rows(what: str, found: Sequence[tuple[RowError | JoinedText, str]]) -> None:
    """`Invalid, row 7: …`: the first few, and how many more there are."""
    for one, said in found[:MAX_ROWS_SHOWN]:
        place = say("row {row}", row=one.row)
        if one.sheet:
            place = say("row {row} of “{sheet}”", row=one.row, sheet=one.sheet)
        print(say("{what}, {place}: {text}", what=what, place=place, text=_cut(said)))
    if (more := len(found) - MAX_ROWS_SHOWN) > 0:
        print(say("… and {count:,} more.", count=more))


def _cut(text: str) -> str:
    return one_line(text, MAX_TEXT_CHARS)


def unused_path(path: Path) -> Path:
    """`pairs-problems.xlsx` beside the file, with a number if that exists."""
    suffix = annotated_suffix(path.name)
    names = (f"{path.stem}-problems{f'-{n}' if n > 1 else ''}{suffix}" for n in count(1))
    return next(free for name in names if not (free := path.with_name(name)).exists())

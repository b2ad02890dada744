"""`gpt2bot dataset`: files of pairs in the terminal, checked, converted, taken in and out.

Knows the terminal and the store. Does not know formats (`data.formats`) nor SQL. No file is ever
overwritten, and each appears whole or not at all.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

from bot.settings import Settings, SettingsError
from core.errors import ImportRefused, write_error
from core.records import IMPORT_SOURCE, OPERATOR_AUTHOR_ID, Pair
from data.dataset.snapshot import as_pairs
from data.formats.files import read_pairs, write_annotated_copy, write_pairs
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.registry import XLSX, format_of
from data.formats.xlsx.template import write_template_workbook
from data.storage.storage import open_storage
from i18n.phrase import phrase
from i18n.reader import say
from training.sources import MAX_BYTES

MAX_ROWS_SHOWN = 5
"""Problems, and joined texts, that are shown."""
MAX_TEXT_CHARS = 100
"""Characters of a text that are shown."""

Row = TypeVar("Row", RowError, JoinedText)


def write_template(path: Path, console: Console) -> None:
    """Write the workbook to fill in.

    Raises:
        SettingsError: there is such a file, or it is not named .xlsx.
        StoreError: it could not be written.
    """
    if format_of(path.name) is not XLSX:
        raise SettingsError(
            phrase("The template is a workbook: name it {name}.xlsx.", name=path.stem)
        )
    with new_file(path) as made:
        write_template_workbook(made)
    text = say(
        "The template is in {path}. Fill it in, then `gpt2bot dataset check {path}`.", path=path
    )
    print_line(console, text)


def check(path: Path, console: Console) -> int:
    """Say what is in a file; the exit status. A marked copy of it appears if rows are wrong.

    Raises:
        ImportRefused: it cannot be read.
        StoreError: the copy could not be written.
    """
    imported = read_with_progress(path, console)
    console.print(counts_table(path, imported))
    for line in _row_lines(say("Joined"), imported.joined, lambda one: one.text):
        print_line(console, line)
    if not imported.errors:
        right, empty = say("Every row is right."), say("There is no pair in it.")
        print_line(console, right if imported.pairs else empty)
        return 0 if imported.pairs else 1
    for line in _row_lines(say("Wrong"), imported.errors, _reason):
        print_line(console, line)
    copy = unused_path(path)
    with new_file(copy) as made:
        write_annotated_copy(path, imported.errors, made, max_bytes=MAX_BYTES)
    print_line(console, say("All of them, with the reason beside each, are in {path}.", path=copy))
    return 1


def convert(path: Path, out: Path, console: Console) -> None:
    """Write the pairs of a file as another file, of the kind that its name says.

    Raises:
        ImportRefused: the one cannot be read, or the other's ending names no kind.
        SettingsError: there is such a file.
        StoreError: it could not be written.
    """
    # Ctrl-C is quiet only outside of imports: both codecs are loaded before the work begins.
    format_of(out.name).codec()
    with suppress(ImportRefused):  # reading says why
        format_of(path.name).codec()
    with new_file(out) as made:
        pairs = _pairs(path, console)
        written = write_pairs(pairs, made)
    print_line(console, say("Pairs written to {path}: {count:,}.", path=out, count=written))


def import_pairs(path: Path, database: Path, server: int, console: Console) -> None:
    """Add the pairs of a file to a server's data set, all or none of them.

    Raises:
        ImportRefused: it cannot be read.
        StoreError: they could not be stored.
    """
    pairs = _pairs(path, console)
    new, total = asyncio.run(_added(database, server, pairs))
    text = say(
        "New pairs: {new:,} of {pairs:,}. Examples of the server {server} now: {total:,}.",
        new=new,
        pairs=len(pairs),
        server=server,
        total=total,
    )
    print_line(console, text)


async def _added(database: Path, server: int, pairs: Sequence[Pair]) -> tuple[int, int]:
    async with open_storage(database) as storage:
        new = await storage.examples.add_pairs(server, pairs, OPERATOR_AUTHOR_ID, IMPORT_SOURCE)
        return new, await storage.examples.count(server)


def export_pairs(
    out: Path, database: Path, server: int, console: Console, *, collected: bool = True
) -> None:
    """Write what a server's bot may learn now as a file, with what was `collected` or without.

    Raises:
        ImportRefused: the file's ending names no kind.
        SettingsError: there is such a file, or nothing may be learned.
        StoreError: the database cannot be read, or the file not written.
    """
    format_of(out.name).codec()
    with new_file(out) as made:
        pairs = asyncio.run(_learnable(database, server, collected))
        if not pairs:
            raise SettingsError(
                phrase("There is nothing that the server {server} may learn now.", server=server)
            )
        written = write_pairs(pairs, made)
    text = say(
        "Pairs written to {path}, which may be learned now: {count:,}.", path=out, count=written
    )
    print_line(console, text)


async def _learnable(database: Path, server: int, collected: bool) -> list[Pair]:
    async with open_storage(database, include_collected=collected) as storage:
        return as_pairs(await storage.examples.trainable(server))


def existing_database(settings: Settings) -> Path:
    """The bot's database.

    Raises:
        SettingsError: there is none yet.
    """
    path = settings.paths.database
    if not path.is_file():
        raise SettingsError(
            phrase(
                "There is no database {path}: the bot makes it when it starts. "
                "If it runs elsewhere, set GPT2BOT_HOME.",
                path=path,
            )
        )
    return path


def read_with_progress(path: Path, console: Console) -> ImportResult:
    """Read a file while its progress is shown.

    Raises:
        ImportRefused: it cannot be read.
    """
    rows = TextColumn(say("reading: {count} rows", count="{task.completed:,.0f}"))
    with Progress(rows, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        return read_pairs(
            path, on_progress=lambda n: bar.update(task, completed=n), max_bytes=MAX_BYTES
        )


def _pairs(path: Path, console: Console) -> Sequence[Pair]:
    """The pairs of a file that has some; what is wrong with it is told, and stops nothing."""
    imported = read_with_progress(path, console)
    for line in _row_lines(say("Left out"), imported.errors, _reason):
        print_line(console, line)
    if not imported.pairs:
        raise ImportRefused(phrase("There is no pair in {path}.", path=path))
    return imported.pairs


def counts_table(path: Path, imported: ImportResult) -> Table:
    """How much there is in a file."""
    table = Table(title=path.name)
    table.add_column(say("in the file"))
    table.add_column(say("count"), justify="right")
    talks = {one.conversation for one in imported.pairs if one.conversation}
    for name, number in (
        (say("rows"), imported.rows),
        (say("pairs"), len(imported.pairs)),
        (say("conversations"), len(talks)),
        (say("joined texts"), len(imported.joined)),
        (say("wrong rows"), len(imported.errors)),
    ):
        table.add_row(name, f"{number:,}")
    return table


def _row_lines(what: str, found: Sequence[Row], text_of: Callable[[Row], str]) -> Iterator[str]:
    """`Wrong, row 7: …`: the first few, and how many more there are."""
    for one in found[:MAX_ROWS_SHOWN]:
        text = " ".join(text_of(one).split())
        cut = text if len(text) <= MAX_TEXT_CHARS else f"{text[: MAX_TEXT_CHARS - 1]}…"
        yield say("{what}, {place}: {text}", what=what, place=_row_location(one), text=cut)
    if (more := len(found) - MAX_ROWS_SHOWN) > 0:
        yield say("… and {count:,} more.", count=more)


def _row_location(one: RowError | JoinedText) -> str:
    if not one.sheet:
        return say("row {row}", row=one.row)
    return say("row {row} of “{sheet}”", row=one.row, sheet=one.sheet)


def _reason(problem: RowError) -> str:
    return say(problem.reason)


def unused_path(path: Path) -> Path:
    """`pairs-problems.xlsx` beside the file, with a number if that is taken."""
    ending = format_of(path.name).annotated_suffix
    for number in count(1):
        suffix = "" if number == 1 else f"-{number}"
        free = path.with_name(f"{path.stem}-problems{suffix}{ending}")
        if not free.exists():
            break
    return free


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end appears as `out`.

    Raises:
        SettingsError: there is such a file already.
        StoreError: it could not be written.
    """
    if out.exists():
        raise SettingsError(phrase("{path} is there already: choose another name.", path=out))
    try:
        with tempfile.TemporaryDirectory(prefix=".gpt2bot-", dir=out.parent) as folder:
            made = Path(folder, out.name)
            yield made
            made.rename(out)
    except OSError as e:
        raise write_error(str(out), e) from e


def print_line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)

"""The command line of data sets: what people can type after `gpt2bot dataset`.

Parses and hands over to `bot.cli.dataset`, which is imported only once a command is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.interrupt import quiet_interrupt
from data.formats.registry import SUPPORTED_FORMATS

if TYPE_CHECKING:
    from rich.console import Console

dataset = typer.Typer(
    name="dataset",
    help="Look after files of pairs, and bring them in and out of the bot's data set.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[
    Path, typer.Argument(metavar="FILE", help=f"A file of pairs ({SUPPORTED_FORMATS}).")
]
OutFile = Annotated[Path, typer.Argument(metavar="OUT", help=f"A new file ({SUPPORTED_FORMATS}).")]
Server = Annotated[
    int, typer.Option(min=1, metavar="ID", help="The server's id, as “Copy Server ID” gives it.")
]


@dataset.command()
def template(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new .xlsx file.")],
) -> None:
    """Write a workbook to fill in, with headings, help and an example."""
    from bot.cli.dataset.files import write_template

    with _open_console() as console:
        write_template(file, console)


@dataset.command()
def check(file: File) -> None:
    """Read a file and say what is in it. If rows are wrong, the exit status is 1."""
    from bot.cli.dataset.files import check as check_file

    with _open_console() as console:
        status = check_file(file, console)
    raise typer.Exit(status)


@dataset.command()
def convert(file: File, out: OutFile) -> None:
    """Write a file of pairs as a file of another kind."""
    from bot.cli.dataset.files import convert as convert_file

    with _open_console() as console:
        convert_file(file, out, console)


@dataset.command(name="import")
def import_file(file: File, server: Server) -> None:
    """Take a file into a server's data set; the bot may run meanwhile."""
    from bot.cli.dataset.files import existing_database, import_pairs
    from bot.settings import load_settings

    with _open_console() as console:
        import_pairs(file, existing_database(load_settings()), server, console)


@dataset.command()
def export(out: OutFile, server: Server) -> None:
    """Write what a server's bot may learn now as a file; the bot may run meanwhile."""
    from bot.cli.dataset.files import existing_database, export_pairs
    from bot.settings import load_settings

    with _open_console() as console:
        settings = load_settings()
        collected = settings.learn_from_chat
        export_pairs(out, existing_database(settings), server, console, collected=collected)


@contextmanager
def _open_console() -> Iterator[Console]:
    """The terminal; Ctrl-C ends without a word, and files appear whole or not at all."""
    from rich.console import Console

    with quiet_interrupt():
        yield Console(markup=False, highlight=False, emoji=False)

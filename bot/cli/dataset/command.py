"""`gpt2bot dataset`: parses the arguments; `bot.cli.dataset.files` is imported only by a call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data.formats.registry import SUPPORTED_FORMATS

dataset = typer.Typer(
    name="dataset",
    help="Check and convert files of pairs; import them into a server's data set, or export it.",
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

    write_template(file)


@dataset.command()
def check(file: File) -> None:
    """Read a file and show what it contains. If rows are invalid, the exit status is 1."""
    from bot.cli.dataset.files import check as check_file

    raise typer.Exit(check_file(file))


@dataset.command()
def convert(file: File, out: OutFile) -> None:
    """Convert a file of pairs to another format."""
    from bot.cli.dataset.files import convert as convert_file

    convert_file(file, out)


@dataset.command(name="import")
def import_file(file: File, server: Server) -> None:
    """Import a file into a server's data set; the bot may run meanwhile."""
    from bot.cli.dataset.files import import_pairs

    import_pairs(file, server)


@dataset.command()
def export(out: OutFile, server: Server) -> None:
    """Export the examples that a server's bot may learn now; the bot may run meanwhile."""
    from bot.cli.dataset.files import export_pairs

    export_pairs(out, server)

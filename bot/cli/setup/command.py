"""`gpt2bot setup`: parses the arguments; what it does is imported only by a call."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Language = StrEnum("Language", ["en", "ja", "auto"])


def setup(
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read the token from this file; default: DISCORD_TOKEN, if set."
        ),
    ] = None,
    language: Annotated[
        Language | None, typer.Option(help="The bot's language; auto: that of the terminal.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="tiny, tiny-ja, gpt2, gpt2-medium or a name in MODELS."),
    ] = None,
    home: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The folder for all data.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take the default for what is not given.")
    ] = False,
) -> None:
    """Ask for the token and a few settings, write them into .env, and check everything."""
    from bot.cli.setup.run import Flags, say_how_to_start, set_up

    if set_up(Flags(token_file, language.value if language else None, model, home, yes)):
        say_how_to_start()

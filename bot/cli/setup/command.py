"""`gpt2bot setup`: parses the arguments; what it does is imported only by a call."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.start import start_bot
from bot.settings import load_settings

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
    message_content: Annotated[
        bool | None,
        typer.Option(
            "--message-content/--no-message-content",
            help="Switch on the bot's Message Content Intent at Discord; with --yes only if given.",
        ),
    ] = None,
    browser: Annotated[
        bool | None,
        typer.Option(
            "--browser/--no-browser", help="Open Discord's pages in your browser; never with --yes."
        ),
    ] = None,
    start: Annotated[
        bool | None,
        typer.Option(
            "--start/--no-start", help="Start the bot at the end; with --yes only if given."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take the default for what is not given.")
    ] = False,
) -> None:
    """Ask for the token and a few settings, write .env, check everything, and start the bot."""
    from bot.cli.setup.run import Flags, set_up, wants_start

    flags = Flags(
        token_file,
        language.value if language else None,
        model,
        home,
        message_content=message_content,
        browser=browser,
        start=start,
        yes=yes,
    )
    if set_up(flags) and wants_start(flags):
        start_bot(load_settings())

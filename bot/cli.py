"""The command line: what people can type after `gpt2bot`.

Parses and hands over; each command imports what it needs only once it is called, so that `--help`
is quick. Errors are turned into sentences in `bot.__main__`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bot.settings import SettingsError, load_settings
from model.settings import LOG_FORMAT

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it (128 + SIGINT)."""

NO_TOKEN = (
    "DISCORD_TOKEN is not set: copy your bot's token from the Bot page of your application at "
    "https://discord.com/developers/applications, and put it into the file .env as "
    "DISCORD_TOKEN=… (without a token you can try `gpt2bot demo` or `gpt2bot chat`)."
)
NO_SIMCORD = (
    'The demo needs the package SimCord: install it with `pip install "simcord[preview]<3.3"`.'
)

app = typer.Typer(
    name="gpt2bot",
    help="A Discord chat bot that answers with GPT-2 and learns from what you teach it.",
    epilog="Settings are read from the environment and from .env; .env.example explains them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gpt2bot {version('gpt2-discord-bot')}")
        raise typer.Exit


@app.callback()
def gpt2bot(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run() -> None:
    """Run the bot on Discord. Needs DISCORD_TOKEN; Ctrl-C ends it."""
    settings = load_settings()
    if settings.discord_token is None or not settings.discord_token.get_secret_value().strip():
        raise SettingsError(NO_TOKEN)
    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT)
    with _quiet_interrupt():
        from bot.app import run_bot

        _expect_no_voice()
        asyncio.run(run_bot(settings))


@app.command()
def demo(
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="N", help="Port of the page; a free one if not given."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")
    ] = True,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep what the bot learns in this folder; forgotten if not given.",
        ),
    ] = None,
) -> None:
    """Try the bot in your browser: a small Discord on this computer. Needs no account."""
    with _quiet_interrupt():
        try:
            from bot.demo import run_demo
        except ModuleNotFoundError as e:
            if e.name != "simcord":
                raise
            raise SettingsError(NO_SIMCORD) from e

        _expect_no_voice()
        asyncio.run(run_demo(port=port, open_browser=browser, home=home))


@app.command()
def chat(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="Answer this and exit; without it, we talk.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="tiny, gpt2, gpt2-medium or a name in MODELS; else DEFAULT_MODEL."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The same number gives the same reply; else SEED, if that is set."
        ),
    ] = None,
) -> None:
    """Talk with a model here in the terminal. Only its replies go to stdout."""
    settings = load_settings() if seed is None else load_settings(seed=seed)
    if text is not None and not text.strip():
        raise SettingsError("TEXT is empty: write what the model should answer.")
    if text is None and sys.stdin is None:
        raise SettingsError("There is no input to read from: give TEXT.")
    with _quiet_interrupt():
        from bot.terminal import talk

        asyncio.run(talk(settings, model, text))


def _expect_no_voice() -> None:
    """Keep discord.py from warning that it cannot speak: the bot only writes."""
    from discord import VoiceClient

    VoiceClient.warn_nacl = VoiceClient.warn_dave = False


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """End on Ctrl-C without a word."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None

"""The command line, `gpt2bot`. Each command imports what it needs when called: `--help` is quick.

`bot.__main__` turns errors into sentences; typer ends with status 130 on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.backup import backup, restore
from bot.cli.cluster import cluster
from bot.cli.dataset.command import dataset
from bot.cli.setup.command import setup
from bot.cli.start import start_bot
from bot.cli.train.command import train
from bot.cli.voice import silence_voice_warnings
from bot.settings import NO_TOKEN, SettingsError, load_settings
from i18n.phrase import phrase
from i18n.reader import say, set_language

NO_PORT = phrase("HEALTH_PORT is not set: put one into the file .env, such as HEALTH_PORT=8080.")
NO_SIMCORD = phrase(
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
app.add_typer(dataset)
app.add_typer(cluster)

Language = StrEnum("Language", ["en", "ja"])


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
    if not settings.token:
        from bot.cli.setup.run import offer_set_up

        if not offer_set_up() or not (settings := load_settings()).token:
            raise SettingsError(NO_TOKEN)
    start_bot(settings)


app.command()(setup)


@app.command()
def demo(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="N", help="Port of the page; default: a free one."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")
    ] = True,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep what the bot learns in this folder; without it, nothing is kept.",
        ),
    ] = None,
    language: Annotated[
        Language | None, typer.Option(help="The bot's language; default: that of the terminal.")
    ] = None,
) -> None:
    """Try the bot in your browser: a small Discord on this computer. Needs no account."""
    try:
        from bot.cli.demo import run_demo
    except ModuleNotFoundError as e:
        if e.name != "simcord":
            raise
        raise SettingsError(NO_SIMCORD) from e

    silence_voice_warnings()
    if language is not None:
        set_language(language.value)
    asyncio.run(run_demo(port=port, open_browser=browser, home=home, language=language))


@app.command()
def chat(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Answer this and exit; without it, a conversation starts.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="tiny, tiny-ja, gpt2, gpt2-medium or a name in MODELS; default: DEFAULT_MODEL.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The same number gives the same reply; default: SEED, if set."
        ),
    ] = None,
) -> None:
    """Chat with a model in the terminal. Only its replies go to stdout."""
    settings = load_settings() if seed is None else load_settings(seed=seed)
    if text is not None and not text.strip():
        raise SettingsError(phrase("TEXT is empty: write what the model should answer."))
    if text is None and sys.stdin is None:
        raise SettingsError(phrase("There is no input to read from: give TEXT."))
    from bot.cli.chat import run_terminal_chat

    asyncio.run(run_terminal_chat(settings, model, text))


app.command()(train)


@app.command(name="eval")
def evaluate(
    server: Annotated[
        int,
        typer.Option(min=1, metavar="ID", help="The server's id, as “Copy Server ID” gives it."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="One of the server's `/model list`; default: the one in service."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for programs.")
    ] = False,
) -> None:
    """Ask a model the golden questions of a server. The exit status is 1 if it fails one that the
    model in service passed the last time."""
    from bot.cli.evaluation import evaluate_model

    silence_voice_warnings()
    raise typer.Exit(asyncio.run(evaluate_model(server, model, as_json=as_json)))


@app.command()
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for programs.")
    ] = False,
) -> None:
    """Check everything that the bot needs. The exit status is 1 if there is a problem."""
    from bot.cli.doctor.command import diagnose

    silence_voice_warnings()
    raise typer.Exit(asyncio.run(diagnose(as_json=as_json)))


@app.command()
def health() -> None:
    """Ask the running bot on HEALTH_PORT whether it is healthy; the exit status is 0 if it is."""
    from bot.ops.probe import query_health

    port = load_settings().health_port
    healthy, text = (False, NO_PORT) if port is None else query_health(port)
    typer.echo(say(text), err=not healthy)
    raise typer.Exit(0 if healthy else 1)


app.command()(backup)
app.command()(restore)

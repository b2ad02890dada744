"""The command line: what people can type after `gpt2bot`.

Parses and hands over; each command imports what it needs only once it is called, so that `--help`
is quick. Errors are turned into sentences in `bot.__main__`.
"""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.backup import backup, restore
from bot.cli.dataset_commands import dataset
from bot.cli.interrupt import quiet_interrupt
from bot.settings import NO_TOKEN, SettingsError, load_settings
from data.formats.registry import SUPPORTED_FORMATS
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


class Language(StrEnum):
    """The languages that the bot speaks."""

    EN = "en"
    JA = "ja"


@app.command()
def run() -> None:
    """Run the bot on Discord. Needs DISCORD_TOKEN; Ctrl-C ends it."""
    settings = load_settings()
    if settings.discord_token is None or not settings.discord_token.get_secret_value().strip():
        raise SettingsError(NO_TOKEN)
    with quiet_interrupt():
        from bot.cli.logs import configure_bot_logging
        from bot.run import run_bot

        configure_bot_logging(settings)
        _silence_voice_warnings()
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
    language: Annotated[
        Language | None, typer.Option(help="What the bot speaks; as the terminal, if not given.")
    ] = None,
) -> None:
    """Try the bot in your browser: a small Discord on this computer. Needs no account."""
    with quiet_interrupt():
        try:
            from bot.cli.demo import run_demo
        except ModuleNotFoundError as e:
            if e.name != "simcord":
                raise
            raise SettingsError(NO_SIMCORD) from e

        _silence_voice_warnings()
        if language is not None:
            set_language(language.value)
        spoken = language.value if language else None
        asyncio.run(run_demo(port=port, open_browser=browser, home=home, language=spoken))


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
        raise SettingsError(phrase("TEXT is empty: write what the model should answer."))
    if text is None and sys.stdin is None:
        raise SettingsError(phrase("There is no input to read from: give TEXT."))
    with quiet_interrupt():
        from bot.cli.chat import run_terminal_chat

        asyncio.run(run_terminal_chat(settings, model, text))


class Precision(StrEnum):
    """The number formats of training."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Method(StrEnum):
    """What is trained: all weights, or LoRA's small matrices beside them."""

    FULL = "full"
    LORA = "lora"


@app.command()
def train(
    dataset: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help=f"A file ({SUPPORTED_FORMATS}), chitchat, or chatterbot:english.",
        ),
    ],
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="tiny, gpt2, gpt2-medium, a folder or a Hub id.")
    ] = "gpt2",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the checkpoint goes; below GPT2BOT_HOME else."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it is called; else as its folder.")
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="How often each example is seen.")] = 3.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a batch.")] = 8,
    accumulation: Annotated[int, typer.Option(min=1, help="Batches a step.")] = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-8, max=0.1, help="As /retrain has it, if not given: 3e-5 for gpt2."),
    ] = None,
    warmup: Annotated[float, typer.Option(min=0, max=1, help="Share of the steps.")] = 0.1,
    max_length: Annotated[int, typer.Option(min=8, max=1024, help="Tokens an example.")] = 128,
    precision: Annotated[Precision, typer.Option(help="The number format.")] = Precision.AUTO,
    method: Annotated[Method, typer.Option(help="All weights, or LoRA.")] = Method.FULL,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Makes the run repeatable.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N conversations.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; else all, or one for tiny.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Devices that share the work.")
    ] = None,
    accelerate_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `accelerate config` wrote.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was interrupted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings and exit.")] = False,
) -> None:
    """Fine-tune a model here in the terminal, as /retrain does in Discord."""
    from rich.console import Console

    from bot.cli import train as run
    from model.registry import with_custom_models
    from training.config import TrainingConfig, default_learning_rate, defaults_for
    from training.sources import load_conversations

    settings = load_settings()
    options = with_custom_models(settings.models)
    source = options[base].source if base in options else base
    usual = defaults_for(base, source)
    base_name = Path(base).resolve().name
    name = name or (out.resolve().name if out else f"{base_name}-trained")
    if Path(name).name != name:
        raise SettingsError(
            phrase("“{name}” cannot be the name of a checkpoint: leave out the slashes.", name=name)
        )
    if accelerate_config is not None and not accelerate_config.is_file():
        raise SettingsError(
            phrase(
                "There is no file {file} (`accelerate config` writes it).", file=accelerate_config
            )
        )
    order = run.TrainRequest(
        config=TrainingConfig(
            name=name,
            base=str(Path(source).absolute()) if Path(source).is_dir() else source,
            base_name=base_name,
            epochs=epochs,
            batch_size=batch_size,
            gradient_accumulation=accumulation,
            learning_rate=learning_rate or default_learning_rate(usual, method.value),
            warmup_ratio=warmup,
            max_length=max_length,
            precision=precision.value,
            method=method.value,
            seed=seed,
            threads=threads or usual.threads,
            language=settings.language,
        ),
        source=dataset,
        out=out or settings.gpt2bot_home / "models" / name,
        launcher=run.launch_command(accelerate_config, processes),
    )
    if order.out.exists():
        raise SettingsError(
            phrase("{folder} is there already: choose another folder with --out.", folder=order.out)
        )
    console = Console(markup=False, highlight=False, emoji=False)
    if resume:
        order, data = run.load_interrupted(order)
    else:
        data = run.hold_out(
            load_conversations(dataset, limit, tell=partial(run.print_line, console)), seed
        )
    if dry_run:
        console.print(run.settings_table(order, data))
        return
    if not resume:
        run.prepare(order, data)
    with quiet_interrupt():
        raise typer.Exit(asyncio.run(run.train(order, data, console)))


@app.command()
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for programs.")
    ] = False,
) -> None:
    """Check that everything the bot needs is there. The exit status is 1 if something is wrong."""
    with quiet_interrupt():
        from bot.cli.doctor.command import diagnose

        _silence_voice_warnings()
        raise typer.Exit(asyncio.run(diagnose(as_json=as_json)))


@app.command()
def health() -> None:
    """Ask the running bot on HEALTH_PORT whether it is well; the exit status is 0 if it is."""
    from bot.ops.probe import query_health

    port = load_settings().health_port
    healthy, text = (False, NO_PORT) if port is None else query_health(port)
    typer.echo(say(text), err=not healthy)
    raise typer.Exit(0 if healthy else 1)


app.command()(backup)
app.command()(restore)


def _silence_voice_warnings() -> None:
    """Keep discord.py from warning that it cannot speak: the bot only writes."""
    from discord import VoiceClient

    VoiceClient.warn_nacl = VoiceClient.warn_dave = False

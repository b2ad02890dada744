"""The options of `gpt2bot train`; what runs it is imported only when it is called."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bot.settings import SettingsError, load_settings
from data.formats.registry import SUPPORTED_FORMATS
from i18n.phrase import phrase


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
        typer.Option(
            metavar="FOLDER", help="The checkpoint's folder; default: below GPT2BOT_HOME."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name; default: that of the folder.")
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the data.")] = 3.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per batch.")] = 8,
    accumulation: Annotated[int, typer.Option(min=1, help="Batches per step.")] = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-8, max=0.1, help="Default: that of /retrain, 3e-5 for gpt2."),
    ] = None,
    warmup: Annotated[
        float, typer.Option(min=0, max=1, help="Warm-up, as a share of the steps.")
    ] = 0.1,
    max_length: Annotated[int, typer.Option(min=8, max=1024, help="Tokens per example.")] = 128,
    precision: Annotated[Precision, typer.Option(help="The number format.")] = Precision.AUTO,
    method: Annotated[Method, typer.Option(help="All weights, or LoRA.")] = Method.FULL,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Makes the run reproducible.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N conversations.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: all, or one for tiny.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Devices that share the work.")
    ] = None,
    accelerate_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file from `accelerate config`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the interrupted run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings and exit.")] = False,
) -> None:
    """Fine-tune a model in the terminal, as /retrain does in Discord."""
    from rich.console import Console

    from bot.cli.train.display import print_line, settings_table
    from bot.cli.train.request import (
        TrainRequest,
        check_base,
        hold_out,
        launch_command,
        load_interrupted,
        prepare,
    )
    from bot.cli.train.run import run_training
    from model.registry import with_custom_models
    from training.config import TrainingConfig, default_learning_rate, defaults_for
    from training.sources import load_conversations

    settings = load_settings()
    options = with_custom_models(settings.models)
    source = options[base].source if base in options else base
    if base not in options or Path(source).is_dir():
        check_base(source)
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
    request = TrainRequest(
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
        launcher=launch_command(accelerate_config, processes),
    )
    if request.out.exists():
        raise SettingsError(
            phrase("{folder} already exists: choose another folder with --out.", folder=request.out)
        )
    console = Console(markup=False, highlight=False, emoji=False)
    if resume:
        request, data = load_interrupted(request)
    else:
        data = hold_out(load_conversations(dataset, limit, tell=partial(print_line, console)), seed)
    if dry_run:
        console.print(settings_table(request, data))
        return
    if not resume:
        prepare(request, data)
    raise typer.Exit(asyncio.run(run_training(request, data, console)))

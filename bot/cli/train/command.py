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
from training.config import TAUGHT_FILE_PAIRS


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
        str,
        typer.Option(
            metavar="MODEL", help="tiny, tiny-ja, gpt2, gpt2-medium, a folder or a Hub id."
        ),
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
    taught: Annotated[
        bool | None,
        typer.Option(
            "--taught/--talk",
            help="Learn answers as /retrain does, or imitate conversations. Default: --taught for "
            f"a file of fewer than {TAUGHT_FILE_PAIRS} pairs, else --talk.",
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(min=0.01, help="Passes over the data. Default: 3, or that of /retrain."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Examples per batch. Default: 8, or that of /retrain."),
    ] = None,
    accumulation: Annotated[int | None, typer.Option(min=1, help="Batches per step.")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-8, max=0.1, help="Default: that of /retrain for this base."),
    ] = None,
    warmup: Annotated[
        float | None, typer.Option(min=0, max=1, help="Warm-up, as a share of the steps.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, max=1024, help="Tokens per example.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="The number format.")] = Precision.AUTO,
    method: Annotated[
        Method | None,
        typer.Option(help="All weights, or LoRA. Default: lora for --taught, else full."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Makes the run reproducible.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N conversations.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads; default: all, or one for tiny and tiny-ja."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Devices that share the work.")
    ] = None,
    accelerate_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file from `accelerate config`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the interrupted run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings and exit.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the result as one JSON object; the rest to stderr."),
    ] = False,
) -> None:
    """Fine-tune a model in the terminal, as /retrain does in Discord."""
    from rich.console import Console

    from bot.cli.train.display import print_line, settings_table
    from bot.cli.train.plan import plan_run
    from bot.cli.train.request import (
        TrainRequest,
        check_base,
        launch_command,
        load_interrupted,
        prepare,
    )
    from bot.cli.train.run import run_training
    from bot.learning.retraining import Overrides
    from model.convert.adapter_folder import BASES_DIR
    from model.registry import with_custom_models
    from training.config import TrainingConfig
    from training.sources import load_conversations

    settings = load_settings()
    options = with_custom_models(settings.models)
    source = options[base].source if base in options else base
    if base not in options or Path(source).is_dir():
        check_base(source)
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
            precision=precision.value,
            seed=seed,
            language=settings.language,
            shared_bases=str(settings.gpt2bot_home.absolute() / "models" / BASES_DIR),
        ),
        source=dataset,
        out=out or settings.gpt2bot_home / "models" / name,
        launcher=launch_command(accelerate_config, processes),
    )
    if request.out.exists():
        raise SettingsError(
            phrase("{folder} already exists: choose another folder with --out.", folder=request.out)
        )
    console = Console(stderr=as_json, markup=False, highlight=False, emoji=False)
    if resume:
        request, data = load_interrupted(request)
    else:
        tell = partial(print_line, console)
        chosen = {
            "batch_size": batch_size,
            "gradient_accumulation": accumulation,
            "warmup_ratio": warmup,
            "max_length": max_length,
            "threads": threads,
        }
        request, data = plan_run(
            request,
            load_conversations(dataset, limit, tell=tell),
            Overrides(epochs, learning_rate, method.value if method else None),
            {key: value for key, value in chosen.items() if value is not None},
            taught=taught,
            tell=tell,
        )
    if dry_run:
        console.print(settings_table(request, data))
        return
    if not resume:
        prepare(request, data)
    raise typer.Exit(asyncio.run(run_training(request, data, console, as_json=as_json)))

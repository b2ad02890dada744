"""A model as an embed: where it comes from, how it was trained, how it scored.

Pure: takes what `training.checkpoints` reads. What an old manifest lacks is "not known".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import discord

from bot.looks import BLURPLE, LONGEST_TITLE, add_fields
from bot.outcome import SETS, losses_text
from bot.plan import method_text
from model.registry import ModelOption
from training.checkpoints import Manifest, Report
from training.progress import duration

UNKNOWN = "not known"


def summary(option: ModelOption) -> str:
    """What a person needs to choose, in two lines."""
    return (
        f"{option.parameters} parameters · {option.memory_usage} · {option.inference_speed}\n"
        f"{option.quality}"
    )


def registry_embed(option: ModelOption) -> discord.Embed:
    """A model that was not made here."""
    embed = discord.Embed(
        title=option.name[:LONGEST_TITLE], colour=BLURPLE, description=summary(option)
    )
    embed.set_footer(text="A model to start from; it was not trained here.")
    return embed


def checkpoint_embed(manifest: Manifest, report: Report | None, size: int) -> discord.Embed:
    """A checkpoint: its manifest, what its checks found, and its `size` in bytes."""
    embed = discord.Embed(title=manifest.name[:LONGEST_TITLE], colour=BLURPLE)
    if report is not None and report.refusal:
        embed.description = f"It did not pass its checks. {report.refusal}"[:4096]
    fields = [
        ("Base", manifest.base_name or (Path(manifest.base).name if manifest.base else UNKNOWN)),
        ("Parents", ", ".join(manifest.parents) or "none"),
        ("Data", f"`{manifest.dataset_sha256[:12]}`"),
        ("Examples", f"{manifest.examples:,}" if manifest.examples else UNKNOWN),
        *setting_fields(manifest.settings),
        *score_fields(manifest, report),
        ("Parameters", f"{manifest.parameters:,}"),
        ("Size on disk", megabytes(size)),
        ("Made", moment(manifest.created_at)),
        ("Time taken", duration(manifest.seconds) if manifest.seconds else UNKNOWN),
        ("Device", manifest.device or UNKNOWN),
    ]
    add_fields(embed, fields)
    return embed


def setting_fields(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was trained."""
    batch, accumulation = settings.get("batch_size"), settings.get("gradient_accumulation")
    return [
        ("Seed", _known(settings.get("seed"))),
        ("Epochs", _known(settings.get("epochs"))),
        ("Learning rate", _known(settings.get("learning_rate"))),
        ("Batch", f"{batch} × {accumulation} accumulated" if batch and accumulation else UNKNOWN),
        ("Method", method_text(settings.get("method", "full"), settings.get("lora_rank"))),
    ]


def score_fields(manifest: Manifest, report: Report | None) -> list[tuple[str, str]]:
    """How it did: in training, and on talk that it was not trained on."""
    first, last = manifest.scores.get("first_loss"), manifest.scores.get("last_loss")
    trained = UNKNOWN if last is None else f"{last:.2f}"
    if first is not None and last is not None:
        trained = f"from {first:.2f} to {last:.2f}"
    fields = [("Training loss", trained)]
    for key, label in SETS.items():
        losses = report.losses.get(key, {}) if report else {}
        fields.append((f"Loss: {label.lower()}", losses_text(losses) or UNKNOWN))
    return fields


def megabytes(size: int) -> str:
    """Bytes as a person says them: `17 MB`."""
    return "less than 1 MB" if size < 500_000 else f"{size / 1e6:,.0f} MB"


def moment(created_at: str) -> str:
    """A time that Discord shows to each reader in their own time zone."""
    try:
        return discord.utils.format_dt(datetime.fromisoformat(created_at))
    except ValueError:
        return UNKNOWN


def _known(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"

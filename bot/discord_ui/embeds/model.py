"""A model as a card: where it comes from, how it was trained, how it scored.

Values that an old manifest lacks are shown as "not known".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import discord

from bot.discord_ui.embeds.style import Fact, card, fact_lines, layout
from bot.discord_ui.embeds.training.evaluation import losses_text
from bot.discord_ui.embeds.training.plan import method_text
from i18n.phrase import join_phrases, phrase
from i18n.reader import say
from model.registry import ModelOption
from training.checkpoints import Manifest, StoredReport
from training.jobs.events import format_duration

NOT_KNOWN_LABEL = phrase("not known")
MAX_REFUSAL_CHARS = 600
LOSS_LABELS = {
    "general": phrase("Loss: general talk (held out)"),
    "own": phrase("Loss: what was taught"),
}
"""The evaluation sets of a report, and the labels of their fields."""


def model_summary(option: ModelOption) -> str:
    """What helps to choose a model, in two lines."""
    return say(
        "{parameters} parameters · {memory} · {speed}\n{quality}",
        parameters=option.parameters,
        memory=option.memory_usage,
        speed=option.inference_speed,
        quality=option.quality,
    )


def registry_card(option: ModelOption, more: Sequence[Fact]) -> discord.ui.LayoutView:
    """A base model, which was not trained here, and what `more` is known of it."""
    note = say("A model to start from; it was not trained here.")
    return _card(option.name, f"{model_summary(option)}\n-# {note}", fact_lines(more))


def checkpoint_card(
    manifest: Manifest, report: StoredReport | None, size: int, more: Sequence[Fact]
) -> discord.ui.LayoutView:
    """A checkpoint: its manifest, its evaluation report, its `size` in bytes, and what `more` is
    known of it."""
    refusal = ""
    if report is not None and report.refusal:
        why = say("It did not pass its checks. {reason}", reason=report.refusal)
        refusal = why[:MAX_REFUSAL_CHARS]
    base = manifest.base_name or (
        Path(manifest.base).name if manifest.base else say(NOT_KNOWN_LABEL)
    )
    origin = [
        (say("Base"), base),
        (say("Parents"), say(join_phrases(manifest.parents, ", ")) or say("none")),
        (say("Data"), f"`{manifest.dataset_sha256[:12]}`"),
        (say("Examples"), f"{manifest.examples:,}" if manifest.examples else say(NOT_KNOWN_LABEL)),
    ]
    run = [
        (say("Parameters"), f"{manifest.parameters:,}"),
        (say("Size on disk"), format_megabytes(size)),
        (say("Made"), format_created_at(manifest.created_at)),
        (
            say("Time taken"),
            say(format_duration(manifest.seconds) if manifest.seconds else NOT_KNOWN_LABEL),
        ),
        (say("Device"), manifest.device or say(NOT_KNOWN_LABEL)),
    ]
    facts = (
        origin,
        setting_fields(manifest.settings),
        score_fields(manifest, report),
        [*run, *more],
    )
    return _card(manifest.name, refusal, *map(fact_lines, facts))


def _card(name: str, *parts: str) -> discord.ui.LayoutView:
    return layout(card(name, *parts))


def setting_fields(settings: Mapping[str, Any]) -> list[Fact]:
    """Its training settings."""
    batch, times = settings.get("batch_size"), settings.get("gradient_accumulation")
    batches = phrase("{batch} × {times} accumulated", batch=batch, times=times)
    return [
        (say("Seed"), _format_number(settings.get("seed"))),
        (say("Epochs"), _format_number(settings.get("epochs"))),
        (say("Learning rate"), _format_number(settings.get("learning_rate"))),
        (say("Batch"), say(batches if batch and times else NOT_KNOWN_LABEL)),
        (say("Method"), method_text(settings.get("method", "full"), settings.get("lora_rank"))),
    ]


def score_fields(manifest: Manifest, report: StoredReport | None) -> list[Fact]:
    """Its losses in training and on held-out data."""
    first, last = manifest.scores.get("first_loss"), manifest.scores.get("last_loss")
    trained = say(NOT_KNOWN_LABEL) if last is None else f"{last:.2f}"
    if first is not None and last is not None:
        trained = say("from {first:.2f} to {last:.2f}", first=first, last=last)
    fields = [(say("Training loss"), trained)]
    for key, label in LOSS_LABELS.items():
        losses = report.losses.get(key, {}) if report else {}
        fields.append((say(label), losses_text(losses) or say(NOT_KNOWN_LABEL)))
    if report is not None and report.votes:
        fields.append((say("Votes"), say(report.votes)))
    return fields


def format_megabytes(size: int) -> str:
    """Bytes as megabytes: `17 MB`."""
    return say("less than 1 MB") if size < 500_000 else f"{size / 1e6:,.0f} MB"


def format_created_at(created_at: str) -> str:
    """A timestamp that Discord shows in each reader's time zone."""
    try:
        return discord.utils.format_dt(datetime.fromisoformat(created_at))
    except ValueError:
        return say(NOT_KNOWN_LABEL)


def _format_number(value: float | None) -> str:
    return say(NOT_KNOWN_LABEL) if value is None else f"{value:g}"

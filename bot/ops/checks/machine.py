"""What the machine has: room on the disk, and memory. Knows sizes, does not load anything."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from bot.ops.checks.finding import Finding, format_megabytes
from bot.settings import Settings
from i18n.phrase import phrase
from model.registry import with_custom_models
from training.jobs.estimate import FP32_BYTES, ModelShape, shape_of

DISK, MEMORY = phrase("disk"), phrase("memory")
MB = 1e6
DEFAULT_CHECKPOINT_BYTES = 500 * MB
"""Bytes that are wanted on the disk where the model's size is not known: a checkpoint of gpt2."""
MEMORY_OVERHEAD = 1.2
"""What a model takes in memory beside its weights, as a factor (docs/benchmarks.md)."""


def default_shape(settings: Settings) -> ModelShape | None:
    """The sizes of the default model, if they are known without asking the Hub."""
    return shape_of(with_custom_models(settings.models)[settings.default_model].source)


def check_disk(settings: Settings) -> list[Finding]:
    """Whether the home can be written, and has room for the next checkpoint."""
    home = settings.gpt2bot_home
    there = next(one for one in (home, *home.parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return [
            Finding(
                DISK,
                False,
                phrase("GPT2BOT_HOME is {home}, and nothing can be written there.", home=home),
                phrase("Choose another folder, or give the bot permission."),
            )
        ]
    return [_room(there, settings)]


def _room(folder: Path, settings: Settings) -> Finding:
    free, shape = shutil.disk_usage(folder).free, default_shape(settings)
    needed = FP32_BYTES * shape.parameters if shape else DEFAULT_CHECKPOINT_BYTES
    who = settings.default_model if shape else "gpt2"
    detail = phrase(
        "{free} are free; a checkpoint of {model} takes {needed}.",
        free=format_megabytes(free),
        model=who,
        needed=format_megabytes(needed),
    )
    if free >= needed:
        return Finding(DISK, True, detail)
    advice = phrase(
        "Free some space, or lower CHECKPOINTS_MB: the oldest unused checkpoints go then."
    )
    return Finding(DISK, False, detail, advice)


def check_memory(settings: Settings) -> list[Finding]:
    """Whether the default model fits into what is free, and what the settings allow besides."""
    free = psutil.virtual_memory().available
    allowed = (settings.memory_mb + settings.cache_mb) * MB
    shape = default_shape(settings)
    needed = settings.cache_mb * MB + (_weights(shape, settings.precision) if shape else 0)
    model = settings.default_model
    detail = phrase(
        "{free} are free; {parts} take about {needed}, and the settings allow {allowed}.",
        free=format_megabytes(free),
        parts=phrase("{model} and CACHE_MB", model=model) if shape else "CACHE_MB",
        needed=format_megabytes(needed),
        allowed=format_megabytes(allowed),
    )
    if free < needed:
        advice = phrase(
            "Set DEFAULT_MODEL to a smaller one, lower CACHE_MB, or end other programs."
        )
        return [Finding(MEMORY, False, detail, advice)]
    if free < allowed:
        advice = phrase("Lower MEMORY_MB or CACHE_MB, or end other programs.")
        return [Finding(MEMORY, False, detail, advice)]
    return [Finding(MEMORY, True, detail)]


def _weights(shape: ModelShape, precision: str) -> float:
    """Bytes of the weights on a CPU: in int8 the table of the tokens stays in fp32."""
    if precision == "fp32":
        return MEMORY_OVERHEAD * FP32_BYTES * shape.parameters
    return MEMORY_OVERHEAD * (shape.parameters + (FP32_BYTES - 1) * shape.vocabulary * shape.width)

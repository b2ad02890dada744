"""Checks of the machine: disk space, memory, and the database file. They change nothing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import psutil

from bot.ops.checks.check import Finding
from bot.settings import Settings
from core.errors import StoreError
from data.storage.health import inspect_database
from data.storage.migrations import SCHEMA_VERSION
from i18n.phrase import join_phrases, message_of, phrase
from model.registry import with_custom_models
from training.jobs.estimate import FP32_BYTES, ModelShape, shape_of

DATABASE, DISK, MEMORY = phrase("database"), phrase("disk"), phrase("memory")
MB = 1e6
DEFAULT_CHECKPOINT_BYTES = 500 * MB
"""Size of a whole gpt2, used if that of the model is unknown."""
MEMORY_OVERHEAD = 1.2
"""Memory of a loaded model, as a multiple of its weights (docs/benchmarks.md)."""


def check_database(settings: Settings) -> Finding:
    """Whether the database is intact, and of a schema version that this bot can open."""
    try:
        health = inspect_database(settings.paths.database, settings.key)
    except StoreError as e:
        advice = phrase("Stop the bot and keep a copy of the file before you do that.")
        return Finding(DATABASE, message_of(e), advice)
    if health is None:
        return Finding(DATABASE, phrase("There is none yet; the first start creates it."))
    detail = phrase(
        "It is intact ({size}, schema version {version}).",
        size=_megabytes(health.size_bytes),
        version=health.schema_version,
    )
    if health.schema_version < SCHEMA_VERSION:
        migrated = phrase(
            "The next start migrates it to version {version}.", version=SCHEMA_VERSION
        )
        detail = join_phrases([detail, migrated])
    return Finding(DATABASE, detail)


def check_disk(settings: Settings) -> Finding:
    """Whether the home can be written, and has space for a whole model: a shared base of adapters,
    or a checkpoint with all weights."""
    home = settings.gpt2bot_home
    try:
        folder = try_writing(home)
    except OSError as e:
        return Finding(
            DISK,
            phrase(
                "GPT2BOT_HOME is {home}, and nothing can be written there ({why}).",
                home=home,
                why=e.strerror,
            ),
            phrase("Choose another folder, or give the bot permission."),
        )
    free, shape = shutil.disk_usage(folder).free, _default_shape(settings)
    needed = FP32_BYTES * shape.parameters if shape else DEFAULT_CHECKPOINT_BYTES
    detail = phrase(
        "{free} are free; a whole copy of {model} takes {needed}.",
        free=_megabytes(free),
        model=settings.own_default_model if shape else "gpt2",
        needed=_megabytes(needed),
    )
    if free >= needed:
        return Finding(DISK, detail)
    advice = phrase(
        "Free some space, or lower CHECKPOINTS_MB: the oldest unused checkpoints are deleted then."
    )
    return Finding(DISK, detail, advice)


def try_writing(home: Path) -> Path:
    """Write into the folder, or into what there is of the folders above it, and return which.

    Raises:
        OSError: nothing can be written there.
    """
    folder = next(one for one in (home, *home.parents) if one.exists())
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def check_memory(settings: Settings) -> Finding:
    """Whether the default model and the cache fit into the free memory, and the limits do too."""
    free = psutil.virtual_memory().available
    cache, allowed = settings.cache_mb * MB, (settings.memory_mb + settings.cache_mb) * MB
    shape, model = _default_shape(settings), settings.own_default_model
    needed = cache + (_weight_bytes(shape, settings.precision) if shape else 0)
    detail = phrase(
        "{free} are free; {parts} take about {needed}, and the settings allow {allowed}.",
        free=_megabytes(free),
        parts=phrase("{model} and CACHE_MB", model=model) if shape else "CACHE_MB",
        needed=_megabytes(needed),
        allowed=_megabytes(allowed),
    )
    advice = ""
    if free < needed:
        advice = phrase(
            "Set DEFAULT_MODEL to a smaller one, lower CACHE_MB, or end other programs."
        )
    elif free < allowed:
        advice = phrase("Lower MEMORY_MB or CACHE_MB, or end other programs.")
    return Finding(MEMORY, detail, advice)


def _default_shape(settings: Settings) -> ModelShape | None:
    """The sizes of the default model, if they are known without asking the Hub."""
    return shape_of(with_custom_models(settings.models)[settings.own_default_model].source)


def _weight_bytes(shape: ModelShape, precision: str) -> float:
    """Bytes in memory on a CPU; with int8 weights, the token embeddings stay in fp32."""
    if precision == "fp32":
        return MEMORY_OVERHEAD * FP32_BYTES * shape.parameters
    return MEMORY_OVERHEAD * (shape.parameters + (FP32_BYTES - 1) * shape.vocabulary * shape.width)


def _megabytes(size: float) -> str:
    return f"{size / MB:,.0f} MB"

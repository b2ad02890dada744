"""What comes back from the machine that trained is put in its place on the bot's.

A checkpoint speaks of folders of the machine that made it: its settings, its base. They are made to
speak of this machine's again, and the checkpoint is sealed anew. Does not know how it travelled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from model.convert.validation import ADAPTER_FILE
from training.checkpoints import HISTORY_FILE, Manifest, seal, verify
from training.config import TrainingConfig
from training.jobs.folder import CHECKPOINT_DIR, STEPS_DIR
from training.shared_bases import write_once

ARRIVED_DIR = ".arrived"
PATH_SETTINGS = ("base", "serving", "shared_bases", "replaces")
"""The settings that name folders."""

Unpack = Callable[[Path], None]
"""Writes a folder that has arrived; it appears whole or not at all."""


def place_step(job: Path, name: str, unpack: Unpack) -> None:
    """Keep a saved step, and no other."""
    steps = job / STEPS_DIR
    unpack(steps / name)
    for other in steps.iterdir():
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)


def place_base(name: str, config: TrainingConfig, unpack: Unpack) -> None:
    """Keep a shared base, unless it is there."""
    assert config.shared_bases is not None  # or the run would have written none

    def write(folder: Path) -> None:
        unpack(folder)
        seal(folder, replace(verify(folder), base=config.base))

    write_once(Path(config.shared_bases) / name, write)


def place_results(job: Path, config: TrainingConfig, gone: tuple[str, ...], unpack: Unpack) -> None:
    """Put the files of a run into the job's folder, and remove what is `gone` there. The checkpoint
    comes last: with it the job is done.

    Raises:
        CorruptCheckpoint: the checkpoint did not arrive as it was sealed.
    """
    arrived = job / ARRIVED_DIR
    try:
        unpack(arrived)
        made = arrived / CHECKPOINT_DIR
        if made.is_dir():
            _bring_home(made, config)
        for name in gone:
            _remove(job / name)
        for path in sorted(arrived.iterdir(), key=lambda one: one == made):
            target = job / path.name
            if path.is_dir():
                _remove(target)
            path.replace(target)
    finally:
        shutil.rmtree(arrived, ignore_errors=True)


def _bring_home(made: Path, config: TrainingConfig) -> None:
    """Let a checkpoint speak of this machine's folders."""
    manifest = verify(made)
    settings = _with_own_paths(manifest.settings, config)
    _rewrite(made / HISTORY_FILE, lambda facts: facts | {"settings": settings})
    if manifest.adapter is not None:
        base = _base_of_adapter(made, manifest, config)
        _rewrite(made / ADAPTER_FILE, lambda facts: facts | {"base_model_name_or_path": base})
    seal(made, replace(manifest, base=config.base, settings=settings))


def _with_own_paths(settings: dict[str, Any], config: TrainingConfig) -> dict[str, Any]:
    own = asdict(config)
    return settings | {name: own[name] for name in PATH_SETTINGS if name in settings}


def _base_of_adapter(made: Path, manifest: Manifest, config: TrainingConfig) -> str:
    """An adapter rests on the base of its run, or on the shared copy of that (`place_base`)."""
    there = json.loads((made / ADAPTER_FILE).read_text(encoding="utf-8"))
    name = Path(there["base_model_name_or_path"]).name
    shared = Path(config.shared_bases or "") / name
    return str(shared) if shared.is_dir() else str(config.base)


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if file.is_file():
        facts = change(json.loads(file.read_text(encoding="utf-8")))
        text = json.dumps(facts, indent=1, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

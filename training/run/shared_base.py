"""The base that a run's adapter refers to: an embedded model, or a copy that is written once. Of an
embedded model a copy is kept too.

Imports torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from model.convert.adapter_folder import copy_name
from model.convert.validation import WEIGHTS_FILE
from model.registry import is_embedded, model_options
from training.checkpoints import LEARNED_FILE, Manifest, read_manifest, seal, sha256
from training.config import TrainingConfig
from training.shared_bases import write_once


def adapter_base(
    config: TrainingConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Path | None:
    """The folder of the base that the run's adapter will refer to, there or not yet written. None:
    the run makes a model of its own. So does what is learned on top of a checkpoint, since a shared
    base holds nothing that a server taught."""
    if config.method == "full" or config.base is None:
        return None
    if is_embedded_folder(Path(config.base)):
        return Path(config.base)
    if config.shared_bases is None or (Path(config.base) / LEARNED_FILE).is_file():
        return None
    name = re.sub(r"[^\w.-]+", "-", config.base_name or Path(config.base).name).lstrip(".-")
    return Path(config.shared_bases) / copy_name(name or "base", _digest(model, tokenizer))


def is_embedded_folder(folder: Path) -> bool:
    return folder in {Path(one.source) for one in model_options.values() if is_embedded(one.name)}


def write_base(
    folder: Path,
    config: TrainingConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Write and seal the base unless it is there. Raises OSError if it could not be written;
    nothing is left behind."""

    def write(partial: Path) -> None:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        seal(partial, _manifest(folder.name, config, model))

    write_once(folder, write)


def keep_embedded(config: TrainingConfig, installed: Path) -> None:
    """Write a copy of an embedded model unless it is there: an update of the bot may bring other
    weights. Raises OSError if it could not be written; nothing is left behind."""
    if config.shared_bases is None:
        return
    name = copy_name(config.base_name, sha256(installed / WEIGHTS_FILE))

    def write(partial: Path) -> None:
        _copy(installed, partial)
        # By its base an open job keeps it (`training.checkpoint_retention`).
        seal(partial, replace(read_manifest(installed), name=name, base=config.base))

    write_once(Path(config.shared_bases) / name, write)


def _copy(installed: Path, partial: Path) -> None:
    """The files, but not the modes of an installed package, which may forbid removing them."""
    partial.mkdir()
    for file in installed.iterdir():
        if file.is_file():
            shutil.copyfile(file, partial / file.name)


def _manifest(name: str, config: TrainingConfig, model: PreTrainedModel) -> Manifest:
    return Manifest(
        name=name,
        base=config.base,
        base_name=config.base_name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset_sha256="",
        parameters=model.num_parameters(),
        settings={},
        scores={},
    )


def _digest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Of all that would be written: weights with the control tokens' rows, settings, tokenizer."""
    found = hashlib.sha256()
    fast: Any = tokenizer
    texts = (fast.backend_tokenizer.to_str(), tokenizer.chat_template, _settings(model))
    for text in texts:
        found.update(f"{text}\n".encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()


def _settings(model: PreTrainedModel) -> str:
    config = model.config.to_dict()
    return json.dumps({key: config[key] for key in sorted(config) if key != "transformers_version"})

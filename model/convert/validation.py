"""A model's folder, looked at before anything of it is loaded: it may come from a stranger.

Knows which files a GPT-2 is made of, and reads no other ones: nothing that could run code when it
is opened. Does not know tensors' values. Imports nothing heavy: the bot's process looks as well.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from i18n.phrase import Phrase, phrase
from model.convert.safetensors_header import InvalidHeader, TensorInfo, read_header
from model.convert.shapes import (
    check_config,
    count_parameters,
    expected_shapes,
    remote_code_message,
)
from model.errors import LoadFailed

WEIGHTS_PATTERN = "*.safetensors"
CONFIG_FILE = "config.json"
WEIGHTS_INDEX_FILE = "model.safetensors.index.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
MAX_SETTINGS_BYTES = 4 << 20
"""Bytes of a file of settings, at most: Python reads it whole."""
MAX_TOKENIZER_BYTES = 50 << 20
"""Bytes of a file of the tokenizer, at most."""
MAX_SENTENCEPIECE_BYTES = 8 << 20
"""The same of a sentencepiece model, which needs many times its size in memory."""
SIZE_LIMITS = {
    CONFIG_FILE: MAX_SETTINGS_BYTES,
    "generation_config.json": MAX_SETTINGS_BYTES,
    WEIGHTS_INDEX_FILE: MAX_SETTINGS_BYTES,
    TOKENIZER_CONFIG_FILE: MAX_SETTINGS_BYTES,
    "special_tokens_map.json": MAX_SETTINGS_BYTES,
    "added_tokens.json": MAX_SETTINGS_BYTES,
    "chat_template.json": MAX_SETTINGS_BYTES,
    "chat_template.jinja": MAX_SETTINGS_BYTES,
    "tokenizer.json": MAX_TOKENIZER_BYTES,
    "vocab.json": MAX_TOKENIZER_BYTES,
    "merges.txt": MAX_TOKENIZER_BYTES,
    "vocab.txt": MAX_TOKENIZER_BYTES,
    "*.model": MAX_SENTENCEPIECE_BYTES,
}
"""The files beside the weights that are read, and how large they may be."""
ALLOWED_FILES = (WEIGHTS_PATTERN, *SIZE_LIMITS)
"""What a model is made of. Nothing else is downloaded or read."""
UNSAFE_WEIGHTS = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.pkl",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.npz",
    "*.gguf",
)
"""Weights in other forms. Some can run code when they are opened, so none of them is."""
ADAPTER_FILE = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that was checked; `tensors` by the names that `expected_shapes` has."""

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]


def resolve_source(source: str, *, download: bool = True) -> Path:
    """The folder of a model: itself, or where the Hub's copy is, which is downloaded if need be.

    Raises:
        OSError, ValueError: the Hub has no such model, or cannot be reached for it.
    """
    if Path(source).is_absolute() or Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    files = snapshot_download(
        source, allow_patterns=list(ALLOWED_FILES), local_files_only=not download
    )
    return Path(files)


def allowed_files(folder: Path) -> Iterator[Path]:
    """The files of a model that are read, in no order."""
    for pattern in ALLOWED_FILES:
        yield from folder.glob(pattern)


def validate_folder(folder: Path, who: str) -> ModelFolder:
    """Refuse what is no whole, ordinary GPT-2 checkpoint, before anything of it is loaded.

    `who` is what the sentence calls it. Costs a moment: of the weights only headers are read.

    Raises:
        LoadFailed: the sentence says what is wrong.
        OSError: a file of it cannot be read.
    """
    if not folder.is_dir():
        raise NotADirectoryError(folder)
    _check_files(folder, who)
    config = _read_json(folder / CONFIG_FILE, who)
    check_config(config, who)
    if "auto_map" in _read_json(folder / TOKENIZER_CONFIG_FILE, who):
        raise LoadFailed(remote_code_message(who))
    _check_index(folder, who)
    return ModelFolder(folder, config, _check_tensors(folder, config, who))


def _check_files(folder: Path, who: str) -> None:
    for path in allowed_files(folder):
        if not _is_inside(path, folder):
            raise LoadFailed(
                phrase(
                    "{who} is refused: its {file} is a link that leads out of it.",
                    who=who,
                    file=path.name,
                )
            )
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise LoadFailed(
                phrase("{who} is refused: its {file} is no ordinary file.", who=who, file=path.name)
            )
        limit = next((most for one, most in SIZE_LIMITS.items() if path.match(one)), None)
        if limit is not None and facts.st_size > limit:
            raise LoadFailed(
                phrase(
                    "{who} is refused: its {file} is larger than {limit} MB, which no GPT-2 needs.",
                    who=who,
                    file=path.name,
                    limit=limit >> 20,
                )
            )
    if not any(folder.glob(WEIGHTS_PATTERN)):
        raise LoadFailed(_missing_weights_message(folder, who))
    if (folder / ADAPTER_FILE).exists():  # transformers would load the model that it names
        raise LoadFailed(
            phrase("{who} holds an adapter, not a model: merge it with its model first.", who=who)
        )
    if not (folder / CONFIG_FILE).exists():
        raise LoadFailed(
            phrase("{who} is no model folder: it has no {file}.", who=who, file=CONFIG_FILE)
        )


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a file is in the folder; links may stay in it, or be those of the Hub's cache.

    There models--NAME/snapshots/COMMIT/FILE leads to models--NAME/blobs/HASH, and that may lead on
    to blobs/HA/HASH, which all models of the cache share.
    """
    if not path.is_symlink():
        return True
    home, target = folder.resolve(), path.resolve()
    if target.parent == home:
        return True
    if home.parent.name != "snapshots" or not home.parents[1].name.startswith("models--"):
        return False
    model, cache = home.parents[1], home.parents[2]
    own, shared = (model / "blobs").resolve(), (cache / "blobs").resolve()
    return target.parent == own or target.parent.parent == shared


def _missing_weights_message(folder: Path, who: str) -> Phrase:
    others = sorted(path.name for pattern in UNSAFE_WEIGHTS for path in folder.glob(pattern))
    if others:
        return phrase(
            "{who} has no weights as safetensors, and files such as {file} are never read, because "
            "some can run code: save the model as safetensors (docs/japanese.md says how).",
            who=who,
            file=others[0],
        )
    if folder.parent.name == "snapshots":  # other forms were not even downloaded
        return phrase(
            "{who} has no weights as safetensors on the Hugging Face Hub, and others are never "
            "read, because some can run code: docs/japanese.md says how to convert them.",
            who=who,
        )
    return no_weights_message(who)


def no_weights_message(who: str) -> Phrase:
    """Of a folder that has none in any form."""
    return phrase("{who} is no model folder: it has no weights as safetensors.", who=who)


def _read_json(path: Path, who: str) -> dict[str, Any]:
    """An object of settings; empty where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as e:
        raise LoadFailed(_unreadable_message(path, who)) from e
    if not isinstance(found, dict):
        raise LoadFailed(_unreadable_message(path, who))
    return found


def _unreadable_message(path: Path, who: str) -> Phrase:
    return phrase("{who} is damaged: its {file} cannot be read.", who=who, file=path.name)


def _check_index(folder: Path, who: str) -> None:
    """The list of weights in several files: transformers would open whatever it names."""
    named = _read_json(folder / WEIGHTS_INDEX_FILE, who).get("weight_map", {})
    here = {path.name for path in folder.glob(WEIGHTS_PATTERN)}
    names = named.values() if isinstance(named, dict) else [named]
    if not all(isinstance(one, str) and one in here for one in names):
        raise LoadFailed(
            phrase(
                "{who} is not complete: its {file} names files that are not there.",
                who=who,
                file=WEIGHTS_INDEX_FILE,
            )
        )


def _check_tensors(folder: Path, config: Mapping[str, Any], who: str) -> dict[str, TensorInfo]:
    found: dict[str, TensorInfo] = {}
    for path in sorted(folder.glob(WEIGHTS_PATTERN)):
        try:
            found |= {one.name.removeprefix("transformer."): one for one in read_header(path)}
        except InvalidHeader as e:
            raise LoadFailed(
                phrase("{who} is damaged: {file} {why}.", who=who, file=path.name, why=e)
            ) from e
    wanted = expected_shapes(config)
    if wanted.keys() - found.keys():
        raise LoadFailed(phrase("The weights of {who} are not complete.", who=who))
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise LoadFailed(
                phrase(
                    "{who} is damaged: its weights have other sizes than its {file} says.",
                    who=who,
                    file=CONFIG_FILE,
                )
            )
        if found[name].dtype not in ("F16", "BF16", "F32", "F64"):
            raise LoadFailed(
                phrase(
                    "{who} has weights as {format}, which cannot be used.",
                    who=who,
                    format=found[name].dtype,
                )
            )
    if (
        count_parameters(config) > psutil.virtual_memory().total
    ):  # at least a byte each, once loaded
        raise LoadFailed(out_of_memory_message(who))
    return {name: found[name] for name in wanted}


def out_of_memory_message(who: str) -> Phrase:
    """Of a model that is too large for this machine."""
    return phrase("There is not enough memory to load {who}.", who=who)

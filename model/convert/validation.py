"""Validates an untrusted model folder before anything of it is loaded.

Knows the files of a GPT-2 checkpoint and reads no others, so nothing that could run code is opened.
Does not know the tensors' values. Imports nothing heavy: the bot's process validates folders too.
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
    EMBEDDING,
    HEAD,
    complete_config,
    count_parameters,
    expected_shapes,
    remote_code_message,
)
from model.errors import LoadFailed, require

WEIGHTS_PATTERN, WEIGHTS_FILE = "*.safetensors", "model.safetensors"
CONFIG_FILE = "config.json"
WEIGHTS_INDEX_FILE = "model.safetensors.index.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
GENERATION_CONFIG_FILE = "generation_config.json"
MAX_SETTINGS_BYTES = 4 << 20
"""Limit of a JSON file, which Python reads at once."""
MAX_TOKENIZER_BYTES = 50 << 20
"""Limit of a tokenizer file."""
MAX_SENTENCEPIECE_BYTES = 8 << 20
"""Limit of a sentencepiece model, which takes many times its size in memory."""
SIZE_LIMITS = {
    CONFIG_FILE: MAX_SETTINGS_BYTES,
    GENERATION_CONFIG_FILE: MAX_SETTINGS_BYTES,
    WEIGHTS_INDEX_FILE: MAX_SETTINGS_BYTES,
    TOKENIZER_CONFIG_FILE: MAX_SETTINGS_BYTES,
    SPECIAL_TOKENS_FILE: MAX_SETTINGS_BYTES,
    "added_tokens.json": MAX_SETTINGS_BYTES,
    "chat_template.json": MAX_SETTINGS_BYTES,
    "chat_template.jinja": MAX_SETTINGS_BYTES,
    "tokenizer.json": MAX_TOKENIZER_BYTES,
    "vocab.json": MAX_TOKENIZER_BYTES,
    "merges.txt": MAX_TOKENIZER_BYTES,
    "vocab.txt": MAX_TOKENIZER_BYTES,
    "*.model": MAX_SENTENCEPIECE_BYTES,
}
"""The files that are read besides the weights, and their largest sizes in bytes."""
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("*.model",), ("vocab.txt",))
"""The files of a tokenizer, in each of its forms."""
ALLOWED_FILES = (WEIGHTS_PATTERN, *SIZE_LIMITS)
"""All files of a model that are downloaded and read."""
UNSAFE = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack", "*.npz", "*.gguf")
"""Other weight formats: never opened, since some of them can run code."""
ADAPTER_FILE = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A validated folder; `config` has all sizes.

    `tensors` by the names of `expected_shapes`, and the head wherever there is one: it may equal
    the embedding.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]


def is_folder(source: str) -> bool:
    """Whether a source of a model is a folder, and not a Hub id."""
    return Path(source).is_absolute() or Path(source).is_dir()


def is_downloaded(hub_id: str) -> bool:
    """Whether a model of the Hub is on this machine (blocking)."""
    try:
        validate_folder(resolve_source(hub_id, download=False), hub_id)
    except (LoadFailed, OSError, ValueError, RuntimeError):
        return False
    return True


def resolve_source(source: str, *, download: bool = True) -> Path:
    """The folder of a source: itself, or the Hub's local copy, downloaded if it is missing.

    Raises:
        OSError, ValueError: the Hub has no such model, or cannot be reached for it.
    """
    if is_folder(source):
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
    """Refuse all but a complete, ordinary GPT-2 checkpoint. Fast: reads only weight headers.

    Raises:
        LoadFailed: the message says what is wrong; it calls the model `who`.
        OSError: a file of it cannot be read.
    """
    if not folder.is_dir():
        raise NotADirectoryError(folder)
    _check_files(folder, who)
    config = complete_config(read_json(folder / CONFIG_FILE, who), who)
    if "auto_map" in read_json(folder / TOKENIZER_CONFIG_FILE, who):
        raise LoadFailed(remote_code_message(who))
    return ModelFolder(folder, config, _check_tensors(folder, config, who))


def _check_files(folder: Path, who: str) -> None:
    check_files(folder, who)
    if not any(folder.glob(WEIGHTS_PATTERN)):
        raise LoadFailed(missing_weights_message(folder, who))
    require(
        not (folder / ADAPTER_FILE).exists(),  # transformers would load the base that it names
        phrase("{who} holds an adapter, which cannot be used as a whole model here.", who=who),
    )
    require(
        (folder / CONFIG_FILE).exists(),
        phrase("{who} is no model folder: it has no {file}.", who=who, file=CONFIG_FILE),
    )
    require(
        any(all(any(folder.glob(one)) for one in files) for files in TOKENIZER_FILES),
        phrase("{who} has no tokenizer: copy the tokenizer.json of its base into it.", who=who),
    )


def check_files(folder: Path, who: str) -> None:
    """Refuse a folder in which a file that is read is too large, or leads elsewhere."""
    for path in allowed_files(folder):
        check_file(path, path.name, who)


def check_file(path: Path, file: str, who: str) -> None:
    require(
        _is_inside(path, path.parent),
        phrase("{who} is refused: its {file} is a link that leads out of it.", who=who, file=file),
    )
    facts = path.stat()
    require(
        stat.S_ISREG(facts.st_mode),
        phrase("{who} is refused: its {file} is no ordinary file.", who=who, file=file),
    )
    limit = next((most for one, most in SIZE_LIMITS.items() if path.match(one)), facts.st_size)
    require(
        facts.st_size <= limit,
        phrase(
            "{who} is refused: its {file} is larger than {limit} MB, which no GPT-2 needs.",
            who=who,
            file=file,
            limit=limit >> 20,
        ),
    )


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in its folder; links may lead within it, or into the Hub's cache.

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


def missing_weights_message(folder: Path, who: str) -> Phrase:
    """Of a folder that has none as safetensors."""
    others = sorted(path.name for pattern in UNSAFE for path in folder.glob(pattern))
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


def read_json(path: Path, who: str) -> dict[str, Any]:
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


def weight_files(folder: Path, who: str) -> list[Path]:
    """The files that transformers reads: others beside them are copies or older weights. Where it
    would find none, whatever there is."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    here = {path.name: path for path in folder.glob(WEIGHTS_PATTERN)}
    if not (folder / WEIGHTS_INDEX_FILE).is_file():
        return sorted(here.values())
    named = read_json(folder / WEIGHTS_INDEX_FILE, who).get("weight_map", {})
    names = list(named.values()) if isinstance(named, dict) else [named]
    require(
        all(isinstance(one, str) and one in here for one in names),
        phrase(
            "{who} is not complete: its {file} names files that are not there.",
            who=who,
            file=WEIGHTS_INDEX_FILE,
        ),
    )
    return [here[name] for name in sorted(set(names))]


def _check_tensors(folder: Path, config: Mapping[str, Any], who: str) -> dict[str, TensorInfo]:
    found = _find_tensors(folder, who)
    wanted = expected_shapes(config)
    if HEAD in found and EMBEDDING not in found and HEAD not in wanted:  # saved once, as the head
        found[EMBEDDING] = found.pop(HEAD)
    if HEAD in found:
        wanted[HEAD] = wanted[EMBEDDING]
    require(
        wanted.keys() <= found.keys(), phrase("The weights of {who} are not complete.", who=who)
    )
    message = phrase(
        "{who} is damaged: its weights have other sizes than its {file} says.",
        who=who,
        file=CONFIG_FILE,
    )
    for name, shape in wanted.items():
        require(found[name].shape == shape, message)
        dtype = found[name].dtype
        require(
            dtype in ("F16", "BF16", "F32", "F64"),
            phrase("{who} has weights as {format}, which cannot be used.", who=who, format=dtype),
        )
    # a parameter takes at least a byte once it is loaded
    require(count_parameters(config) <= psutil.virtual_memory().total, out_of_memory_message(who))
    return {name: found[name] for name in wanted}


def _find_tensors(folder: Path, who: str) -> dict[str, TensorInfo]:
    found: dict[str, TensorInfo] = {}
    for path in weight_files(folder, who):
        try:
            tensors = {one.name.removeprefix("transformer."): one for one in read_header(path)}
        except InvalidHeader as e:
            raise LoadFailed(
                phrase("{who} is damaged: {file} {why}.", who=who, file=path.name, why=e)
            ) from e
        for name in tensors.keys() & found.keys():
            raise LoadFailed(
                phrase(
                    "{who} has the same weights twice, in {file} and {other}: remove one of them.",
                    who=who,
                    file=found[name].file.name,
                    other=path.name,
                )
            )
        found |= tensors
    return found


def out_of_memory_message(who: str) -> Phrase:
    """Of a model that is too large for this machine."""
    return phrase("There is not enough memory to load {who}.", who=who)

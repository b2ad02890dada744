"""Validates an untrusted adapter folder, as peft writes it, and finds the base that it belongs to.

Knows the files and settings of peft's LoRA, and that each pair has to fit a matrix of the base.
Does not know the tensors' values. Imports nothing heavy: the bot's process validates folders too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from i18n.phrase import phrase
from model.convert.safetensors_header import InvalidHeader, TensorInfo, read_header
from model.convert.shapes import ADAPTABLE_MATRICES, expected_shapes
from model.convert.validation import (
    ADAPTER_FILE,
    ModelFolder,
    check_file,
    check_files,
    missing_weights_message,
    read_json,
    resolve_source,
    validate_folder,
    weight_files,
)
from model.errors import LoadFailed, require
from model.registry import display_name, is_embedded, model_options

ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
MANIFEST_FILE = "manifest.json"
BASES_DIR = "bases"
"""The folder of the shared bases, beside those of the servers' checkpoints."""
DIGEST_CHARS = 12
"""Of a digest in the name of a shared base."""
MAX_RANK = 32
"""Each row of a batch holds room for an adapter of that rank at most."""
ADAPTABLE = re.compile(rf"h\.\d+\.({'|'.join(map(re.escape, ADAPTABLE_MATRICES))})")
TENSOR = re.compile(r"base_model\.model\.(?:transformer\.)?(.+)\.lora_([AB])\.weight")
DESCRIPTIVE_OPTIONS = {
    *(
        "base_model_name_or_path",
        "revision",
        "task_type",
        "peft_type",
        "peft_version",
        "auto_mapping",
    ),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("r", "lora_alpha", "lora_dropout", "fan_in_fan_out", "inference_mode"),
    *("megatron_core", "qalora_group_size"),
}
"""Options of peft that name the base, the tensors or the training, or that others need."""
HARMLESS_VALUES: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),
}
"""Options that may have one of these values. (Other initial weights change the base.) Every other
option must be empty: it changes what is computed."""


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A validated folder. `pairs` has A (rank, in) and B (out, rank) as peft stores them, by the
    name of their matrix; their product is multiplied by `scale`. `base` is a folder or a Hub id.
    `base_sha256` is the hash of the base's weights that it was trained on, if that is known."""

    path: Path
    base: str
    base_sha256: str | None
    rank: int
    scale: float
    pairs: Mapping[str, tuple[TensorInfo, TensorInfo]]


def is_adapter(source: str | Path) -> bool:
    """Whether a source is the folder of an adapter."""
    return (Path(source) / ADAPTER_FILE).is_file()


def validate_model(folder: Path, who: str) -> None:
    """Refuse all but a complete, ordinary GPT-2 checkpoint, or an adapter with its base.

    Raises:
        LoadFailed: the message says what is wrong; it calls the model `who`.
        OSError: a file of it cannot be read.
    """
    if not is_adapter(folder):
        validate_folder(folder, who)
        return
    adapter = validate_adapter(folder, who)
    check_base(adapter, find_base(adapter, who, download=False), who)


def validate_adapter(folder: Path, who: str) -> AdapterFolder:
    """Refuse all but an ordinary LoRA adapter. Fast: reads only the header of the weights.

    Raises:
        LoadFailed: the message says what is wrong; it calls the model `who`.
        OSError: a file of it cannot be read.
    """
    check_files(folder, who)
    weights = folder / ADAPTER_WEIGHTS_FILE
    if not weights.is_file():
        raise LoadFailed(missing_weights_message(folder, who))
    check_file(folder / ADAPTER_FILE, ADAPTER_FILE, who)
    check_file(weights, ADAPTER_WEIGHTS_FILE, who)
    config = read_json(folder / ADAPTER_FILE, who)
    _check_options(config, who)
    rank, manifest = config["r"], _read_manifest(folder, who)
    return AdapterFolder(
        folder,
        _base_source(folder, config, manifest, who),
        _base_sha256(manifest),
        rank,
        config.get("lora_alpha", rank) / rank,
        _find_pairs(weights, rank, who),
    )


def _read_manifest(folder: Path, who: str) -> dict[str, Any]:
    if (folder / MANIFEST_FILE).exists():
        check_file(folder / MANIFEST_FILE, MANIFEST_FILE, who)
    return read_json(folder / MANIFEST_FILE, who)


def _check_options(config: Mapping[str, Any], who: str) -> None:
    if (kind := config.get("peft_type")) != "LORA":
        raise LoadFailed(
            phrase("{who} is an adapter of the kind {kind}; only LoRA can be used.", who=who,
                   kind=ascii(kind)[:40])
        )  # fmt: skip
    for key, value in config.items():
        usual = HARMLESS_VALUES.get(key, ()) if value else (value,)
        require(
            key in DESCRIPTIVE_OPTIONS or value in usual,
            phrase(
                "{who} was made with the option “{option}” of peft, which cannot be used here.",
                who=who,
                option=key[:40],
            ),
        )
    rank = config.get("r")
    require(
        type(rank) is int and 1 <= rank <= MAX_RANK,
        phrase(
            "{who} has the rank {rank}; here it may be a number from 1 to {most}.",
            who=who,
            rank=ascii(rank)[:40],
            most=MAX_RANK,
        ),
    )
    alpha = config.get("lora_alpha", rank)
    require(
        type(alpha) in (int, float) and abs(alpha) < 1e6,
        phrase("{who} is damaged: its lora_alpha is no ordinary number.", who=who),
    )


def _find_pairs(weights: Path, rank: int, who: str) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    try:
        tensors = read_header(weights)
    except InvalidHeader as e:
        raise LoadFailed(
            phrase("{who} is damaged: {file} {why}.", who=who, file=weights.name, why=e)
        ) from e
    found: dict[str, dict[str, TensorInfo]] = {}
    for one in tensors:
        match = TENSOR.fullmatch(one.name)
        if match is None or not ADAPTABLE.fullmatch(match[1]):
            raise LoadFailed(
                phrase(
                    "{who} changes {tensor}; only the matrices of attention and MLP can be changed "
                    "here.",
                    who=who,
                    tensor=ascii(one.name[:80]),
                )
            )
        require(
            one.dtype in ("F16", "BF16", "F32"),
            phrase("{who} has weights as {format}, which cannot be used.", who=who,
                   format=one.dtype),
        )  # fmt: skip
        found.setdefault(match[1], {})[match[2]] = one
    require(
        bool(found) and all(pair.keys() == {"A", "B"} for pair in found.values()),
        phrase("The weights of {who} are not complete.", who=who),
    )
    for pair in found.values():
        _check_rank(pair["A"].shape[:1], rank, who)
        _check_rank(pair["B"].shape[1:], rank, who)
    return {name: (found[name]["A"], found[name]["B"]) for name in sorted(found)}


def _check_rank(size: tuple[int, ...], rank: int, who: str) -> None:
    require(
        size == (rank,),
        phrase(
            "{who} is damaged: its weights have another rank than its {file} says.",
            who=who,
            file=ADAPTER_FILE,
        ),
    )


# --- the base ------------------------------------------------------------------------------------


def _base_source(
    folder: Path, config: Mapping[str, Any], manifest: Mapping[str, Any], who: str
) -> str:
    """An embedded model is found by name, since the folder of an installed package moves; any other
    base where the adapter says, or, if that is gone, near the adapter: under the same name, or in a
    folder of the same name."""
    name = manifest.get("base_name")
    if isinstance(name, str) and is_embedded(name):
        return _embedded_source(folder, name, _base_sha256(manifest))
    source = config.get("base_model_name_or_path")
    if not isinstance(source, str) or not source:
        raise LoadFailed(
            phrase("{who} does not say which base it belongs to: its {file} names none.", who=who,
                   file=ADAPTER_FILE)
        )  # fmt: skip
    path = Path(source)
    if not path.is_absolute() or path.is_dir():
        return source
    names = (path.name, Path(path.parent.name, path.name))
    near = (parent / name for parent in list(folder.resolve().parents)[:3] for name in names)
    moved = (one for one in near if one != folder and one.is_dir())
    return str(next(moved, path))


def _embedded_source(folder: Path, name: str, sha256: str | None) -> str:
    """The installed folder, or, if an update brought other weights, the copy of the old ones that
    the adapter's training left near it."""
    installed = model_options[name].source
    if sha256 is None or _installed_sha256(installed) == sha256:
        return installed
    copies = (one / BASES_DIR / copy_name(name, sha256) for one in folder.resolve().parents[:3])
    return str(next((one for one in copies if one.is_dir()), installed))


def copy_name(name: str, sha256: str) -> str:
    """What the folder of a shared base is called: its name and a part of its digest."""
    return f"{name}-{sha256[:DIGEST_CHARS]}"


@cache
def _installed_sha256(folder: str) -> str | None:
    """Of an embedded model's weights, which stay as they are while the program runs."""
    try:
        return files_sha256(weight_files(Path(folder), folder))
    except OSError:
        return None


def _base_sha256(manifest: Mapping[str, Any]) -> str | None:
    block = manifest.get("adapter")
    found = block.get("base_sha256") if isinstance(block, Mapping) else None
    return found if isinstance(found, str) and found else None


def find_base(adapter: AdapterFolder, who: str, *, download: bool = True) -> ModelFolder:
    """The validated folder of its base.

    Raises:
        LoadFailed: it is missing, or no model that can be used.
    """
    name = display_name(adapter.base)
    missing = phrase(
        "The base of {who} is missing: {base} is not on this machine, and {who} is only what was "
        "learned beside it.",
        who=who,
        base=name,
    )
    try:
        folder = resolve_source(adapter.base, download=download)
        require(not is_adapter(folder), phrase("The base of {who} is an adapter itself.", who=who))
        return validate_folder(folder, name)
    except (OSError, ValueError, RuntimeError) as e:
        raise LoadFailed(missing) from e


def check_base(
    adapter: AdapterFolder, base: ModelFolder, who: str, sha256: str | None = None
) -> None:
    """Refuse an adapter whose base has changed since, or has no such matrices. `sha256` is that of
    `weights_sha256` if it is known.

    Raises:
        LoadFailed: the message says so.
    """
    name = display_name(adapter.base)
    if adapter.base_sha256 is not None:
        require(
            (sha256 or weights_sha256(base)) == adapter.base_sha256,
            phrase(
                "{who} belongs to other weights of {base} than those that are here now: put the "
                "old ones back, or retrain.",
                who=who,
                base=name,
            ),
        )
    shapes = expected_shapes(base.config)
    for matrix, (a, b) in adapter.pairs.items():
        require(
            shapes.get(f"{matrix}.weight") == (a.shape[1:] + b.shape[:1]),
            phrase("{who} does not fit {base}: {matrix} has another shape there.", who=who,
                   base=name, matrix=matrix),
        )  # fmt: skip


def weights_sha256(base: ModelFolder) -> str:
    """The SHA-256 of a base's weights file; of several, of all in the order of their names."""
    return files_sha256(weight_files(base.path, base.path.name))


def files_sha256(files: Iterable[Path]) -> str:
    """The SHA-256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def weights_state(base: ModelFolder) -> tuple[tuple[str, int, int], ...]:
    """What changes when the weights are replaced: names, sizes and times of their files."""
    facts = ((path, path.stat()) for path in weight_files(base.path, base.path.name))
    return tuple((str(path), one.st_size, one.st_mtime_ns) for path, one in facts)

"""Checkpoint folders: what is in one, how it is sealed, how to tell that it is whole.

A folder opens with plain `AutoModelForCausalLM.from_pretrained`. `manifest.json` is written last
and names each file with its size and SHA-256, so a folder without a manifest is not a checkpoint.
Imports neither torch nor transformers: the bot's process reads manifests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.errors import CorruptCheckpoint

MANIFEST = "manifest.json"
HISTORY = "history.json"
LOSS_CURVE = "loss.png"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint is made of. `files` maps a name to `{"bytes", "sha256"}`."""

    name: str
    base: str | None
    created_at: str
    dataset_sha256: str
    parameters: int
    settings: dict[str, Any]
    scores: dict[str, float]
    format: int = FORMAT
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder whose other files are complete."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    unfinished = folder / f".{MANIFEST}"
    text = json.dumps(asdict(manifest) | {"files": files}, indent=2) + "\n"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a sealed folder.

    Raises:
        CorruptCheckpoint: there is none, or it cannot be read.
    """
    try:
        fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**fields)
    except FileNotFoundError as e:
        raise CorruptCheckpoint(
            f"{folder.name} has no manifest: its training never finished."
        ) from e
    except (OSError, ValueError, TypeError) as e:
        raise CorruptCheckpoint(f"The manifest of {folder.name} cannot be read.") from e
    if manifest.format != FORMAT:
        raise CorruptCheckpoint(f"{folder.name} was written by a newer version of the bot.")
    return manifest


def verify(folder: Path) -> Manifest:
    """The manifest, after every file was found as it was sealed (size and SHA-256).

    Raises:
        CorruptCheckpoint: the sentence names the file.
    """
    manifest = read_manifest(folder)
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            raise CorruptCheckpoint(f"{folder.name} is damaged: {name} is missing or cut short.")
        if sha256(path) != facts["sha256"]:
            raise CorruptCheckpoint(f"{folder.name} is damaged: {name} was changed.")
    return manifest


def whole_checkpoints(root: Path) -> Iterator[tuple[Path, Manifest]]:
    """The folders directly under `root` that have a readable manifest, by name."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            yield folder, read_manifest(folder)
        except CorruptCheckpoint:
            continue


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

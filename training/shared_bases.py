"""Shared bases: the models that adapters rest on, each written once beside the checkpoints.

The first training that makes an adapter of a base writes a copy with control tokens
(`training.run.shared_base`); the adapters of all servers refer to it by the SHA-256 of its weights.
Of an embedded model the installed folder serves, and the copy only when an update has brought other
weights. It holds nothing that a server taught. Imports neither torch nor transformers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from model.convert.adapter_folder import (
    BASES_DIR,
    check_base,
    find_base,
    is_adapter,
    validate_adapter,
)
from model.convert.validation import WEIGHTS_FILE
from training.checkpoints import Manifest, iter_checkpoints, read_manifest, verify
from training.errors import CorruptCheckpoint

LOCK_FILE = ".lock"


def iter_shared_bases(root: Path) -> Iterator[tuple[Path, Manifest]]:
    """The shared bases beside the checkpoints in `root`, by name."""
    yield from iter_checkpoints(root / BASES_DIR)


def refers_to(checkpoint: Manifest, base: Manifest) -> bool:
    """Whether a checkpoint is an adapter of this base."""
    adapter = checkpoint.adapter
    return adapter is not None and adapter["base_sha256"] == _weights_sha256(base)


def check_adapter(folder: Path) -> None:
    """Check an adapter and what it says of its base, but not the weights of that. Other folders
    pass. Raises LoadFailed if the base is missing, or another one. Raises CorruptCheckpoint if the
    base has no manifest."""
    if not is_adapter(folder):
        return
    adapter = validate_adapter(folder, folder.name)
    base = find_base(adapter, folder.name, download=False)
    check_base(adapter, base, folder.name, _weights_sha256(read_manifest(base.path)))


def _weights_sha256(base: Manifest) -> str:
    return str(base.files.get(WEIGHTS_FILE, {}).get("sha256"))


def write_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a sealed folder unless it is there and whole. Only one process writes at a time;
    another one then finds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / LOCK_FILE):
        if _is_whole(folder):
            return
        partial = folder.with_name(f".{folder.name}.partial")
        for old in (partial, folder):  # left by a run that was killed here, or damaged since
            shutil.rmtree(old, ignore_errors=True)
        try:
            write(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)  # frees a full disk
            raise
        partial.rename(folder)


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except CorruptCheckpoint:
        return False
    return True

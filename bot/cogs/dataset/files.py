"""Files that /dataset sends: made in a thread, in memory by the time they are sent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path


def made(name: str, writing: Callable[[Path], object]) -> bytes:
    """A file as `writing` makes it; its name is `name` (blocking)."""
    with tempfile.TemporaryDirectory(prefix="gpt2bot-file-") as folder:
        path = Path(folder, name)
        writing(path)
        return path.read_bytes()


def too_large(size: int, limit: int, format: str, scope: int) -> str:
    """What to do about a file that Discord does not take."""
    other = "" if format == "xlsx" else "choose `xlsx`, which is packed, or "
    return (
        f"The file has {size / 10**6:.1f} MB, and Discord takes {limit / 10**6:.1f} MB here: "
        f"{other}ask the operator for `gpt2bot dataset export FILE.{format} --server {scope}`."
    )

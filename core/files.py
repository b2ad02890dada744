"""Writes files that appear complete or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from core.errors import write_error


def write_atomically(
    path: Path, content: bytes, what: str | None = None, *, private: bool = False
) -> None:
    """Write a file; `what` names it in the error's sentence, if not by its own name.

    A `private` one can be read by its owner only, who stays the same.

    Raises:
        DiskFull, StoreError: it could not be written; a file that was there is untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        try:
            if private:
                _make_private(partial, path)
            partial.write_bytes(content)
            partial.replace(path)
        finally:  # after Ctrl-C too; a finished file has moved away
            partial.unlink(missing_ok=True)
    except OSError as e:
        raise write_error(what or path.name, e) from e


def _make_private(partial: Path, path: Path) -> None:
    """Make an empty file that only the owner of `path` can read, or only we if there is none."""
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600, exist_ok=False)
    if path.exists() and hasattr(os, "chown"):
        there = path.stat()
        with suppress(PermissionError):  # it becomes ours: only an administrator may give it away
            os.chown(partial, there.st_uid, there.st_gid)

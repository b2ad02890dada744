"""Writes files that appear complete or not at all."""

from __future__ import annotations

from pathlib import Path

from core.errors import write_error


def write_atomically(path: Path, content: bytes, what: str | None = None) -> None:
    """Write a file; `what` names it in the error's sentence, if not by its own name.

    Raises:
        DiskFull, StoreError: it could not be written; a file that was there is untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:  # after Ctrl-C too; a finished file has moved away
            partial.unlink(missing_ok=True)
    except OSError as e:
        raise write_error(what or path.name, e) from e

"""Files that /dataset sends, made in memory. Blocking: call it in a thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from core.records import Pair
from data.formats.files import write_pairs
from i18n.reader import say


def template_file(name: str) -> bytes:
    """The workbook to fill in."""
    from data.formats.xlsx.template import write_template_workbook  # slow: it imports openpyxl

    return _made(name, write_template_workbook)


def export_file(name: str, pairs: Sequence[Pair]) -> bytes:
    """The pairs as a file of the kind that its name says."""
    return _made(name, lambda path: write_pairs(pairs, path))


def _made(name: str, writing: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="gpt2bot-file-") as folder:
        path = Path(folder, name)
        writing(path)
        return path.read_bytes()


def too_large(size: int, limit: int, format: str, scope: int) -> str:
    """What to do about a file that Discord does not take."""
    values = {"size": size / 10**6, "limit": limit / 10**6, "format": format, "server": scope}
    if format == "xlsx":
        return say(
            "The file has {size:.1f} MB, and Discord takes {limit:.1f} MB here: ask the operator "
            "for `gpt2bot dataset export FILE.{format} --server {server}`.",
            **values,
        )
    return say(
        "The file has {size:.1f} MB, and Discord takes {limit:.1f} MB here: choose `xlsx`, which "
        "is packed, or ask the operator for "
        "`gpt2bot dataset export FILE.{format} --server {server}`.",
        **values,
    )

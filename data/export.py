"""Writes the data set out of the database: what a training run reads.

Knows files and JSON. Does not know SQL, nor who trains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from data.errors import not_written
from data.schema import Example


def write_snapshot(examples: Sequence[Example], path: Path) -> str:
    """Freeze examples as JSON lines `{"user", "bot"}`, sorted by id; the sha256 of the file in hex.

    The same examples give the same bytes. The file appears whole or not at all.

    Raises:
        DiskFull, StoreError: it could not be written; what was there before is untouched.
    """
    snapshot = "".join(_line(example) for example in sorted(examples, key=lambda one: one.id))
    content = snapshot.encode()
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as e:
        partial.unlink(missing_ok=True)
        raise not_written("The data set", e) from e
    return hashlib.sha256(content).hexdigest()


def _line(example: Example) -> str:
    return json.dumps({"user": example.user, "bot": example.bot}, ensure_ascii=False) + "\n"

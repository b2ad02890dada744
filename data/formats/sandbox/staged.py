"""What the child leaves of a file that it read, in a folder: a summary, the pairs, a marked copy.

The bot holds the summary only, and pages through the pairs: a file of 20 MB can hold a million.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from core.records import Pair
from data.formats.import_result import ImportResult, ImportSummary, JoinedText, RowError
from i18n.phrase import deserialize_phrase, serialize_phrase

PAIRS_PER_LINE = 500
_SUMMARY, _PAIRS, _COPY = "summary.json", "pairs.jsonl", "marked"


@dataclass(frozen=True, slots=True)
class StagedImport:
    """A file that was read; `folder` holds the rest of it until somebody removes the folder."""

    folder: Path
    summary: ImportSummary

    @property
    def marked_copy(self) -> Path | None:
        """The file with the reasons beside its wrong rows; None if there is none."""
        copy = copy_path(self.folder)
        return copy if copy.exists() else None

    def pairs(self) -> Iterator[Pair]:
        """All pairs, read from the folder bit by bit (blocking)."""
        for page in iter_pages(self.folder / _PAIRS):
            yield from page


def append_page(path: Path, pairs: Iterable[Pair]) -> None:
    """Add a line with these pairs to a file (blocking)."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([astuple(one) for one in pairs], ensure_ascii=False) + "\n")


def iter_pages(path: Path) -> Iterator[list[Pair]]:
    """The pages of a file, read bit by bit (blocking)."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield [Pair(*one) for one in json.loads(line)]


def copy_path(folder: Path) -> Path:
    return folder / _COPY


def write_staged(imported: ImportResult, folder: Path) -> None:
    """Write the summary and the pairs.

    Raises:
        OSError: they could not be written.
    """
    (folder / _PAIRS).touch()
    for start in range(0, len(imported.pairs), PAIRS_PER_LINE):
        append_page(folder / _PAIRS, imported.pairs[start : start + PAIRS_PER_LINE])
    summary = json.dumps(_to_json(imported.summarize()))
    (folder / _SUMMARY).write_text(summary, encoding="utf-8")


def load_staged(folder: Path) -> StagedImport:
    loaded = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    return StagedImport(folder, _from_json(loaded))


def _to_json(summary: ImportSummary) -> dict[str, Any]:
    return {
        "counts": [summary.rows, summary.pairs, summary.errors, summary.joined],
        "pairs": [astuple(one) for one in summary.first_pairs],
        "errors": [
            (one.row, serialize_phrase(one.reason), one.sheet) for one in summary.first_errors
        ],
        "joined": [astuple(one) for one in summary.first_joined],
        "guesses": list(map(serialize_phrase, summary.guesses)),
        "notes": list(map(serialize_phrase, summary.notes)),
    }


def _from_json(loaded: dict[str, Any]) -> ImportSummary:
    rows, pairs, errors, joined = loaded["counts"]
    return ImportSummary(
        rows=rows,
        pairs=pairs,
        errors=errors,
        joined=joined,
        first_pairs=tuple(Pair(*one) for one in loaded["pairs"]),
        first_errors=tuple(
            RowError(row, deserialize_phrase(reason), sheet)
            for row, reason, sheet in loaded["errors"]
        ),
        first_joined=tuple(JoinedText(*one) for one in loaded["joined"]),
        guesses=tuple(map(deserialize_phrase, loaded["guesses"])),
        notes=tuple(map(deserialize_phrase, loaded["notes"])),
    )

"""The child process that reads one file and marks its wrong rows:
`python -m data.formats.sandbox.child PATH FOLDER NAME LANGUAGE`.

Writes JSON lines to stdout: {"rows": N} as progress, {"refused": sentence} on failure, and
{"read": true} once FOLDER holds what `data.formats.sandbox.staged` describes; the marked copy, in
LANGUAGE, may still follow. Ends when its stdin does.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path

from core.errors import ImportRefused, StoreError, write_error
from core.limits import end_with_parent, limit_resources
from core.subprocesses import lower_priority
from data.formats.files import read_pairs, write_annotated_copy
from data.formats.import_result import RowError
from data.formats.registry import format_read
from data.formats.sandbox.staged import copy_path, write_staged
from i18n.phrase import phrase, serialize_phrase
from i18n.reader import use_language

MAX_MEMORY_BYTES = 2**30
"""Bytes of address space that reading may add."""
MAX_CHARS = 40_000_000
"""Of all cells or records of a file together."""
MAX_WRITTEN_BYTES = 160 * 10**6
"""Of each file that the child leaves: MAX_CHARS of Japanese, and some room."""
CPU_BASE_S, CPU_S_PER_MB = 3.0, 2.5
"""Seconds of processor time that a file may take, by its size: 100,000 rows of a workbook (6 MB)
take 10 s, and 90 kB have no business taking longer than a few."""

log = logging.getLogger(__name__)


def main() -> None:
    path, folder, name, language = sys.argv[1:]
    with suppress(ImportRefused):  # reading says why
        # before the limits: numpy, which openpyxl imports, reserves address space
        format_read(name).codec()
    end_with_parent()
    limit_resources(
        memory=MAX_MEMORY_BYTES,
        cpu_s=cpu_limit_s(Path(path).stat().st_size),
        file_bytes=MAX_WRITTEN_BYTES,
    )
    gc.disable()  # reading makes no reference cycles
    lower_priority(10)  # the bot, which is answering people, gets the CPU first
    try:
        errors = _read(Path(path), Path(folder), name)
    except ImportRefused as e:
        emit_event(refused=serialize_phrase(e.args[0]))
    except MemoryError:
        message = phrase(
            "{name} needs more memory than an import may have: split it into parts.", name=name
        )
        emit_event(refused=serialize_phrase(message))
    except OSError as e:
        emit_event(refused=serialize_phrase(write_error(name, e).args[0]))
    else:
        emit_event(read=True)
        if errors:
            with use_language(language):
                _mark(Path(path), Path(folder), name, errors)


def cpu_limit_s(size: int) -> float:
    """Seconds of processor time for a file of so many bytes."""
    return CPU_BASE_S + CPU_S_PER_MB * size / 10**6


def _read(path: Path, folder: Path, name: str) -> tuple[RowError, ...]:
    imported = read_pairs(
        path, name=name, on_progress=lambda rows: emit_event(rows=rows), max_chars=MAX_CHARS
    )
    write_staged(imported, folder)
    return imported.errors


def _mark(path: Path, folder: Path, name: str, errors: tuple[RowError, ...]) -> None:
    """Write the marked copy; without it, which is only a help, the import goes on."""
    try:
        write_annotated_copy(path, errors, copy_path(folder), name=name)
    except (ImportRefused, MemoryError, StoreError) as e:
        log.warning("no marked copy of an upload: %s", e)


def emit_event(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

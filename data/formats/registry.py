"""Of what kind a file is: by the ending of its name, and by a look at what is in it.

Knows endings and how files begin. Does not know what the kinds mean.
"""

from __future__ import annotations

import codecs
import zipfile
from enum import StrEnum
from pathlib import Path, PurePath

from core.errors import ImportRefused
from data.formats.xlsx.package import OLE_MAGIC, macros_error, ole_file_error
from i18n.phrase import phrase

MAX_FILE_BYTES = 20 * 10**6
SUPPORTED_FORMATS = phrase(".xlsx, .csv, .jsonl, .json or .yml")
_SNIFF_BYTES = 4096
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MACRO_SUFFIXES = (".xlsm", ".xltm", ".xlsb", ".xlam")


class FileFormat(StrEnum):
    XLSX = ".xlsx"
    CSV = ".csv"
    JSON = ".json"
    JSONL = ".jsonl"
    YAML = ".yml"


def format_of(name: str) -> FileFormat:
    """By the name alone.

    Raises:
        ImportRefused: its ending is none of KINDS.
    """
    ending = PurePath(name).suffix.lower()
    if ending == ".yaml":
        return FileFormat.YAML
    try:
        return FileFormat(ending)
    except ValueError:
        raise ImportRefused(
            phrase(
                "{name} is of no kind that is known: save it as {kinds}.",
                name=name,
                kinds=SUPPORTED_FORMATS,
            )
        ) from None


def annotated_format(name: str) -> FileFormat:
    """Of what kind a copy of the file is in which wrong rows are marked."""
    kind = format_of(name)
    return kind if kind in (FileFormat.XLSX, FileFormat.CSV) else FileFormat.JSONL


def sniff_format(path: Path, name: str, max_bytes: int = MAX_FILE_BYTES) -> FileFormat:
    """The kind of a file that may be read.

    Raises:
        ImportRefused: it may not; the sentence says why.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_SNIFF_BYTES)
    except OSError as e:
        raise ImportRefused(
            phrase("{name} cannot be opened: {why}.", name=name, why=e.strerror)
        ) from e
    if size > max_bytes:
        limit = f"{max_bytes / 10**6:.3g} MB"
        raise ImportRefused(
            phrase(
                "{name} is over the limit of {limit}: split it into parts.", name=name, limit=limit
            )
        )
    if not size and not name.lower().endswith(FileFormat.JSONL):  # no lines are no pairs
        raise ImportRefused(phrase("{name} is empty.", name=name))
    if start.startswith(OLE_MAGIC):
        raise ole_file_error(path.read_bytes(), name)
    if name.lower().endswith(_MACRO_SUFFIXES):
        raise macros_error(name)
    kind = format_of(name)
    _check_content(kind, start, zipfile.is_zipfile(path), name)
    return kind


def _check_content(kind: FileFormat, start: bytes, zipped: bool, name: str) -> None:
    if kind is FileFormat.XLSX:
        if not zipped:
            raise ImportRefused(
                phrase(
                    "{name} is named .xlsx but is no Excel workbook: open it where it was made, "
                    "and save it as .xlsx.",
                    name=name,
                )
            )
    elif zipped and start.startswith(b"PK"):
        raise ImportRefused(
            phrase(
                "{name} is named {kind} but is an Excel workbook or a zip: if it opens in "
                "Excel, name it .xlsx.",
                name=name,
                kind=kind,
            )
        )
    elif b"\0" in start and not start.startswith(_UTF16) and kind is not FileFormat.CSV:
        raise ImportRefused(
            phrase("{name} is named {kind} but holds no text.", name=name, kind=kind)
        )

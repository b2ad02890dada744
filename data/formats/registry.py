"""The file formats of pairs in one table, `FORMATS`, and how a file is recognised: suffix, content.

To add a format, write a module with the three functions of `Codec` and add it to `FORMATS`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from typing import Protocol, cast

from core.errors import ImportRefused
from core.records import Pair
from data.formats.chat_exports import export_error, lines_export, text_export
from data.formats.encodings import SNIFFED_BYTES, utf16_encoding
from data.formats.import_result import ImportBuilder
from data.formats.xlsx.package import OLE_MAGIC, ole_file_error
from i18n.phrase import join_phrases, phrase

MAX_FILE_BYTES = 20 * 10**6
_BINARY_SUFFIXES = (".xlsb", ".xlam")

Problems = Mapping[str, Mapping[int, str]]
"""The errors of a file's invalid rows: by sheet ("" outside workbooks), then by row."""


class Codec(Protocol):
    """The functions of each format's module. `name` is the file's name in sentences."""

    def read(self, path: Path, name: str, into: ImportBuilder) -> None:
        """Add the file's pairs and its invalid rows to `into`.

        Raises:
            ImportRefused: the file as a whole cannot be read.
        """

    def encode(self, pairs: Sequence[Pair]) -> bytes:
        """A file that reads back as exactly these pairs; the same pairs give the same bytes."""

    def annotate(self, path: Path, name: str, problems: Problems) -> bytes:
        """A copy of the file that says what is wrong with each of its invalid rows."""


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How to recognise a format, and its module.

    Files with `suffixes_read` are read and annotated, but not written. Annotated copies of records
    are JSON lines (`copies_records`), those of tables have the suffix of their file.
    """

    suffixes: tuple[str, ...]
    module: str
    suffixes_read: tuple[str, ...] = ()
    copies_records: bool = True
    is_zip: bool = False
    may_be_empty: bool = False
    may_contain_nul: bool = False

    @property
    def suffix(self) -> str:
        return self.suffixes[0]

    def codec(self) -> Codec:
        """The module, imported on first use: openpyxl takes longer to import than the bot."""
        return cast(Codec, import_module(self.module))


XLSX = FileFormat(
    (".xlsx",),
    "data.formats.xlsx.codec",
    suffixes_read=(".xlsm", ".xltx", ".xltm"),
    copies_records=False,
    is_zip=True,
)
FORMATS = (
    XLSX,
    # NUL bytes: only the rows that hold them are refused
    FileFormat((".csv",), "data.formats.delimited", copies_records=False, may_contain_nul=True),
    FileFormat((".jsonl",), "data.formats.json_lines", may_be_empty=True),
    FileFormat((".json",), "data.formats.json_list"),
    FileFormat((".yml", ".yaml"), "data.formats.chatterbot_yaml"),
)
SUPPORTED_FORMATS = phrase(
    "{listed} or {last}",
    listed=join_phrases([one.suffix for one in FORMATS[:-1]], ", "),
    last=FORMATS[-1].suffix,
)


def format_of(name: str) -> FileFormat:
    """The format to write a file of that name in.

    Raises:
        ImportRefused: its suffix is that of none.
    """
    suffix = PurePath(name).suffix.lower()
    for one in FORMATS:
        if suffix in one.suffixes:
            return one
    raise _unknown_kind(name)


def format_read(name: str) -> FileFormat:
    """The format to read a file of that name in.

    Raises:
        ImportRefused: its suffix is that of none.
    """
    if found := _find(name):
        return found
    raise _unknown_kind(name)


def annotated_suffix(name: str) -> str:
    """The suffix of a file's annotated copy."""
    return ".jsonl" if format_read(name).copies_records else PurePath(name).suffix.lower()


def _unknown_kind(name: str) -> ImportRefused:
    return ImportRefused(
        phrase(
            "{name} is of no kind that is known: save it as {kinds}.",
            name=name,
            kinds=SUPPORTED_FORMATS,
        )
    )


def _find(name: str) -> FileFormat | None:
    suffix = PurePath(name).suffix.lower()
    return next((one for one in FORMATS if suffix in one.suffixes + one.suffixes_read), None)


def sniff_format(path: Path, name: str, max_bytes: int = MAX_FILE_BYTES) -> FileFormat:
    """The file's format by its name, checked against its size and content.

    Raises:
        ImportRefused: they don't match; the sentence says what to do.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(SNIFFED_BYTES)
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
    by_name = _find(name)
    if not size and not (by_name and by_name.may_be_empty):
        raise ImportRefused(phrase("{name} is empty.", name=name))
    if start.startswith(OLE_MAGIC):
        raise ImportRefused(ole_file_error(path.read_bytes(), name))
    if name.lower().endswith(_BINARY_SUFFIXES):
        raise ImportRefused(
            phrase("{name} is a binary workbook or an add-in: save it as .xlsx.", name=name)
        )
    text = start.decode(utf16_encoding(start) or "utf-8", "replace")
    # the lines of a table may look like messages below its headings, so CSV looks at them later
    if program := text_export(text) or (None if by_name else lines_export(text)):
        raise ImportRefused(export_error(name, program))
    expected = format_read(name)
    if error := _content_error(expected, start, zipfile.is_zipfile(path), name):
        raise ImportRefused(error)
    return expected


def _content_error(expected: FileFormat, start: bytes, zipped: bool, name: str) -> str | None:
    if expected.is_zip:
        if zipped:
            return None
        return phrase(
            "{name} is named {kind} but is no Excel workbook: open it where it was made, "
            "and save it as .xlsx.",
            name=name,
            kind=PurePath(name).suffix,
        )
    kind = expected.suffix
    if zipped and start.startswith(b"PK"):
        return phrase(
            "{name} is named {kind} but is an Excel workbook or a zip: if it opens in "
            "Excel, name it .xlsx.",
            name=name,
            kind=kind,
        )
    if b"\0" in start and not utf16_encoding(start) and not expected.may_contain_nul:
        return phrase("{name} is named {kind} but holds no text.", name=name, kind=kind)
    return None

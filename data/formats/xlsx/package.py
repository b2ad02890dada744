"""An .xlsx as a zip: whether it is safe to open, and its parts.

Knows zip, and the marks of encrypted, old and macro-enabled workbooks. Does not know sheets.
Declared sizes are checked before anything is unpacked; that is enough against zip bombs, because
`zipfile` never unpacks more than the declared size.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import ExpatError

from defusedxml import (  # type: ignore[import-untyped]
    DefusedXmlException,
    DTDForbidden,
)
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

from core.errors import ImportRefused
from i18n.phrase import phrase

MAX_UNZIPPED_BYTES = 256 * 2**20
"""Unpacked bytes of all parts together."""
MAX_COMPRESSION_RATIO = 200
"""Even a workbook of equal rows stays below; deflate can reach 1,032."""
MAX_PART_BYTES = 16 * 2**20
"""Bytes of a part that is read in one piece: any but sheets and shared strings."""
MAX_PARTS = 10_000

OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
"""The first bytes of Excel's files before 2007, and of encrypted workbooks."""
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")


def ole_file_error(data: bytes, name: str) -> ImportRefused:
    if _ENCRYPTED in data:
        return ImportRefused(
            phrase("{name} is protected by a password: save it without one.", name=name)
        )
    return ImportRefused(
        phrase("{name} is in the old Excel format (.xls): save it as .xlsx.", name=name)
    )


def macros_error(name: str) -> ImportRefused:
    return ImportRefused(
        phrase(
            "{name} has macros, which are not read: save it as an Excel workbook without macros "
            "(.xlsx).",
            name=name,
        )
    )


@contextmanager
def open_package(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """The zip of a workbook that is safe to read.

    Raises:
        ImportRefused: it is not, or is damaged (also raised while its parts are read).
    """
    with wrap_package_errors(name), zipfile.ZipFile(path) as package:
        _check_package(package, name)
        yield package


@contextmanager
def wrap_package_errors(name: str) -> Iterator[None]:
    """Turn the errors of reading a damaged package into ImportRefused."""
    try:
        yield
    except DefusedXmlException as e:
        raise ImportRefused(
            phrase(
                "{name} refers to other files or defines its own XML, which is not read: save "
                "it anew as .xlsx.",
                name=name,
            )
        ) from e
    except (
        zipfile.BadZipFile,
        zlib.error,
        ExpatError,
        ParseError,
        EOFError,
        KeyError,
        IndexError,
        ValueError,
        NotImplementedError,
        OSError,
        struct.error,
    ) as e:
        raise ImportRefused(
            phrase(
                "{name} is damaged, or no Excel workbook: open it in Excel and save it as .xlsx.",
                name=name,
            )
        ) from e


def _check_package(package: zipfile.ZipFile, name: str) -> None:
    parts = package.infolist()
    names = {part.filename.lower() for part in parts}
    expanded = sum(part.file_size for part in parts)
    packed = sum(part.compress_size for part in parts)
    if len(parts) > MAX_PARTS or expanded > MAX_UNZIPPED_BYTES:
        raise ImportRefused(
            phrase(
                "{name} unpacks to over {limit} MB: split it into smaller workbooks.",
                name=name,
                limit=MAX_UNZIPPED_BYTES // 2**20,
            )
        )
    if expanded > 2**20 and expanded > packed * MAX_COMPRESSION_RATIO:
        raise ImportRefused(
            phrase(
                "{name} unpacks to over {times} times its size, as no real workbook does: "
                "it is not opened.",
                name=name,
                times=MAX_COMPRESSION_RATIO,
            )
        )
    if any(part.flag_bits & 1 for part in parts):
        raise ImportRefused(
            phrase("{name} is protected by a password: save it without one.", name=name)
        )
    if any(one.endswith("vbaproject.bin") for one in names):
        raise macros_error(name)
    if "[content_types].xml" not in names or "xl/workbook.bin" in names:
        raise ImportRefused(
            phrase("{name} is no Excel workbook (.xlsx): save it as one.", name=name)
        )
    if b"macroEnabled" in read_part(package, "[Content_Types].xml"):
        raise macros_error(name)


def read_part(package: zipfile.ZipFile, part: str) -> bytes:
    """A part in one piece.

    Raises:
        KeyError: there is none.
        ValueError: it is too large for that.
    """
    if package.getinfo(part).file_size > MAX_PART_BYTES:
        raise ValueError(part)
    return package.read(part)


def parse_part(package: zipfile.ZipFile, part: str) -> Element:
    tree: Element = fromstring(read_part(package, part), forbid_dtd=True)
    return tree


def forbid_doctype(*declared: object) -> None:
    """A handler for expat: without a document type there are no entities to expand."""
    raise DTDForbidden(*declared[:3])

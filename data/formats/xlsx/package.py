"""An .xlsx as a zip: checks that it is safe to open, and reads its parts. Does not know sheets."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import ExpatError

from defusedxml import DefusedXmlException, DTDForbidden  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

from core.errors import ImportRefused
from i18n.phrase import phrase

MAX_UNZIPPED_BYTES = 256 * 2**20
"""Of all parts together."""
MAX_COMPRESSION_RATIO = 200
"""Even a workbook of identical rows stays below; deflate can reach 1,032."""
MAX_PART_BYTES = 16 * 2**20
"""Of a part that is read in one piece, as all but sheets and shared strings are."""
MAX_PARTS = 10_000

OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
"""The first bytes of Excel's files before 2007, and of encrypted workbooks."""
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, OSError)
_PART_ERRORS = (ExpatError, ParseError, EOFError, KeyError, IndexError, ValueError)


def ole_file_error(data: bytes, name: str) -> str:
    if _ENCRYPTED in data:
        return phrase("{name} is protected by a password: save it without one.", name=name)
    return phrase("{name} is in the old Excel format (.xls): save it as .xlsx.", name=name)


def macros_error(name: str) -> str:
    return phrase(
        "{name} has macros, which are not read: save it as an Excel workbook without macros "
        "(.xlsx).",
        name=name,
    )


@contextmanager
def open_package(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """The zip of a workbook, if it is safe to read.

    Raises:
        ImportRefused: it is unsafe or damaged (also raised while its parts are read).
    """
    with wrap_package_errors(name), zipfile.ZipFile(path) as package:
        if error := _package_error(package, name):
            raise ImportRefused(error)
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
    except _ZIP_ERRORS + _PART_ERRORS as e:
        raise ImportRefused(
            phrase(
                "{name} is damaged, or no Excel workbook: open it in Excel and save it as .xlsx.",
                name=name,
            )
        ) from e


def _package_error(package: zipfile.ZipFile, name: str) -> str | None:
    # Declared sizes suffice against zip bombs: zipfile never unpacks more than the declared size.
    parts = package.infolist()
    names = {part.filename.lower() for part in parts}
    expanded = sum(part.file_size for part in parts)
    packed = sum(part.compress_size for part in parts)
    if len(parts) > MAX_PARTS or expanded > MAX_UNZIPPED_BYTES:
        return phrase(
            "{name} unpacks to over {limit} MB: split it into smaller workbooks.",
            name=name,
            limit=MAX_UNZIPPED_BYTES // 2**20,
        )
    if expanded > 2**20 and expanded > packed * MAX_COMPRESSION_RATIO:
        return phrase(
            "{name} unpacks to over {times} times its size, as no real workbook does: "
            "it is not opened.",
            name=name,
            times=MAX_COMPRESSION_RATIO,
        )
    if any(part.flag_bits & 1 for part in parts):
        return phrase("{name} is protected by a password: save it without one.", name=name)
    if any(one.endswith("vbaproject.bin") for one in names):
        return macros_error(name)
    if "[content_types].xml" not in names or "xl/workbook.bin" in names:
        return phrase("{name} is no Excel workbook (.xlsx): save it as one.", name=name)
    has_macros = b"macroEnabled" in read_part(package, "[Content_Types].xml")
    return macros_error(name) if has_macros else None


def read_part(package: zipfile.ZipFile, part: str) -> bytes:
    """A part in one piece.

    Raises:
        KeyError: there is none of this name.
        ValueError: it is larger than MAX_PART_BYTES.
    """
    if package.getinfo(part).file_size > MAX_PART_BYTES:
        raise ValueError(part)
    return package.read(part)


def parse_part(package: zipfile.ZipFile, part: str) -> Element:
    tree: Element = fromstring(read_part(package, part), forbid_dtd=True)
    return tree


def forbid_doctype(*declared: object) -> None:
    """A handler for expat that refuses document types, and with them entity expansion."""
    raise DTDForbidden(*declared[:3])

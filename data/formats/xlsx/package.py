"""An .xlsx as a zip: checks that it is safe to open, and reads its parts. Does not know sheets.

Macros are parts like any other, and are not looked at.
"""

from __future__ import annotations

import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote
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


@dataclass(frozen=True, slots=True)
class Package:
    """The parts of a workbook.

    Their names do not depend on case (ECMA-376, part 2, 9.1), and are found also if percent-encoded
    or written with backslashes, as Excel and LibreOffice find them.
    """

    zip: zipfile.ZipFile
    _names: Mapping[str, str]

    def find(self, part: str) -> str | None:
        """The name of a part in the zip; None if it is missing."""
        return self._names.get(_normalize(part))

    def open(self, part: str) -> IO[bytes]:
        """
        Raises:
            KeyError: there is no such part.
        """
        return self.zip.open(self._names[_normalize(part)])

    def read(self, part: str) -> bytes:
        """A part in one piece.

        Raises:
            KeyError: there is no such part.
            ValueError: it is larger than MAX_PART_BYTES.
        """
        name = self._names[_normalize(part)]
        if self.zip.getinfo(name).file_size > MAX_PART_BYTES:
            raise ValueError(part)
        return self.zip.read(name)

    def parse(self, part: str) -> Element:
        tree: Element = fromstring(self.read(part), forbid_dtd=True)
        return tree


def _normalize(part: str) -> str:
    return posixpath.normpath(unquote(part).replace("\\", "/").lstrip("/")).casefold()


@contextmanager
def open_package(path: Path, name: str) -> Iterator[Package]:
    """The zip of a workbook, if it is safe to read.

    Raises:
        ImportRefused: it is unsafe or damaged (only its directory is looked at).
    """
    with ExitStack() as stack:
        with wrap_package_errors(name):
            package = stack.enter_context(zipfile.ZipFile(path))
            if error := _package_error(package, name):
                raise ImportRefused(error)
        yield Package(package, {_normalize(part): part for part in package.namelist()})


@contextmanager
def wrap_package_errors(name: str) -> Iterator[None]:
    """Turn the errors of reading a damaged package into ImportRefused."""
    try:
        yield
    except DefusedXmlException as e:
        raise ImportRefused(
            phrase(
                "{name} refers to other files or defines its own XML, which is not read: save "
                "it again as .xlsx.",
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
    names = {_normalize(part.filename) for part in parts}
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
    if "[content_types].xml" not in names or "xl/workbook.bin" in names:
        return phrase("{name} is no Excel workbook (.xlsx): save it as one.", name=name)
    return None


def forbid_doctype(*declared: object) -> None:
    """A handler for expat that refuses document types, and with them entity expansion."""
    raise DTDForbidden(*declared[:3])

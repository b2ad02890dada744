"""Writes workbooks with all texts as plain text; the same rows give the same bytes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence

from openpyxl import Workbook
from openpyxl.cell import Cell, WriteOnlyCell
from openpyxl.styles import Font
from openpyxl.worksheet._write_only import WriteOnlyWorksheet

COLUMN_WIDTHS = (50, 50, 16, 8, 20, 8)
"""In characters."""
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
_PROPERTIES = "docProps/core.xml"
_NO_PROPERTIES = (
    b'<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/'
    b'core-properties"/>'
)
_FORMULA = re.compile(r"['=+\-@\t\r＝＋－＠#]")
_NOT_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_LIKE_ESCAPED = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")


def escape_ooxml(text: str) -> str:
    """Encode the characters that XML cannot hold as _xHHHH_ (ECMA-376, part 1, 22.9.2.19)."""
    plain = _LIKE_ESCAPED.sub("_x005F_", text)
    return _NOT_XML.sub(lambda m: f"_x{ord(m[0]):04X}_", plain)


def build_workbook(rows: Iterable[Sequence[str | int]]) -> bytes:
    """A workbook with one sheet; the first row holds the headings."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("conversations")
    sheet.freeze_panes = "A2"
    for column, width in zip("ABCDEF", COLUMN_WIDTHS, strict=True):
        sheet.column_dimensions[column].width = width
    for number, row in enumerate(rows):
        sheet.append([_cell(sheet, value, bold=number == 0) for value in row])
    return to_reproducible_bytes(book)


def _cell(sheet: WriteOnlyWorksheet, value: str | int, *, bold: bool) -> str | int | Cell | None:
    if isinstance(value, int):
        return value
    text = escape_ooxml(value)
    if not bold and not _FORMULA.match(text):
        return text or None
    cell = WriteOnlyCell(sheet, text)
    cell.data_type = "s"
    if bold:
        cell.font = Font(bold=True)
    else:
        cell.quotePrefix = True
    return cell


def to_reproducible_bytes(book: Workbook) -> bytes:
    """The file without any creation times."""
    made, file = io.BytesIO(), io.BytesIO()
    book.save(made)
    with zipfile.ZipFile(made) as parts, zipfile.ZipFile(file, "w") as package:
        for name in parts.namelist():
            content = _NO_PROPERTIES if name == _PROPERTIES else parts.read(name)
            package.writestr(
                zipfile.ZipInfo(name, ZIP_EPOCH), content, compress_type=zipfile.ZIP_DEFLATED
            )
    return file.getvalue()

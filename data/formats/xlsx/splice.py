"""Adds cells to a sheet, and a fill to the styles, without changing any other byte. Pure.

So charts, pictures and formulas survive, unlike with libraries that load and save workbooks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from openpyxl.utils.cell import column_index_from_string, get_column_letter

from data.formats.xlsx.cells import is_hidden
from data.formats.xlsx.package import forbid_doctype
from data.formats.xlsx.writer import escape_ooxml

_FILL = (
    '<{0}fill><{0}patternFill patternType="solid"><{0}fgColor rgb="FFFFC7CE"/>'
    "</{0}patternFill></{0}fill>"
)
_STYLE = '<{0}xf numFmtId="0" fontId="0" fillId="{1}" borderId="0" xfId="0" applyFill="1"/>'


class _ByteOffsets:
    """The byte offsets of a part's elements.

    `prefix` is the part's namespace prefix, with the colon; `max_column` the widest row's.
    """

    def __init__(self, part: bytes) -> None:
        self.prefix = ""
        self.max_column = 0
        self.row_ends: dict[int, int] = {}
        self.starts: dict[str, tuple[int, dict[str, str]]] = {}
        self.ends: dict[str, int] = {}
        self.columns: list[tuple[int, dict[str, str]]] = []
        self._part = part
        self._row = self._column = 0
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = forbid_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.Parse(part, True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        before, _, tag = name.rpartition(":")
        match tag:
            case "row":
                self._row, self._column = int(attributes.get("r", self._row + 1)), 0
            case "c":
                place = attributes.get("r", "").rstrip("0123456789")
                self._column = column_index_from_string(place) if place else self._column + 1
                self.max_column = max(self.max_column, self._column)
            case "worksheet" | "styleSheet":
                self.prefix = f"{before}:" if before else ""
            case "col":
                self.columns.append((self._parser.CurrentByteIndex, attributes))
            case "dimension" | "fills" | "cellXfs":
                self.starts.setdefault(tag, (self._parser.CurrentByteIndex, attributes))

    def _end(self, name: str) -> None:
        tag, at = name.rpartition(":")[2], self._parser.CurrentByteIndex
        if tag == "row" and self._part.startswith(b"</", at):  # not <row/>
            self.row_ends[self._row] = at
        elif tag in ("dimension", "fills", "cellXfs"):
            self.ends.setdefault(tag, at)


def add_cells(sheet: bytes, texts: Mapping[int, str], style: int | None) -> bytes:
    """The sheet with these texts in a new last column, by row."""
    offsets = _ByteOffsets(sheet)
    column = get_column_letter(offsets.max_column + 1)
    edits = [
        (end, end, _cell(offsets.prefix, f"{column}{row}", texts[row], style))
        for row, end in offsets.row_ends.items()
        if row in texts
    ]
    if "dimension" in offsets.starts:  # optional, and out of date now
        start = offsets.starts["dimension"][0]
        end = sheet.index(b">", offsets.ends["dimension"] - 1)
        edits.append((start, end + 1, ""))
    edits += _show_column(sheet, offsets)
    return _apply_edits(sheet, edits)


def _show_column(sheet: bytes, offsets: _ByteOffsets) -> list[tuple[int, int, str]]:
    """Split a range of hidden columns that the new column is in, so that people see it."""
    new = offsets.max_column + 1
    for start, attributes in offsets.columns:
        first, last = int(attributes["min"]), int(attributes["max"])
        if first <= new <= last and is_hidden(attributes, "width"):
            shown = {k: v for k, v in attributes.items() if k not in ("hidden", "width")}
            parts = [(first, new - 1, attributes), (new, new, shown), (new + 1, last, attributes)]
            text = "".join(_col(offsets.prefix, *part) for part in parts if part[0] <= part[1])
            return [(start, _tag_end(sheet, start), text)]
    return []


def _col(prefix: str, first: int, last: int, attributes: Mapping[str, str]) -> str:
    given = {**attributes, "min": str(first), "max": str(last)}
    return f"<{prefix}col {' '.join(f'{k}={quoteattr(v)}' for k, v in given.items())}/>"


def _tag_end(sheet: bytes, start: int) -> int:
    """The end of an element without content, written as one tag or two."""
    end = sheet.index(b">", start) + 1
    return end if sheet[end - 2 : end] == b"/>" else sheet.index(b">", end) + 1


def add_fill(styles: bytes) -> tuple[bytes, int | None]:
    """The styles with a filled one added, and its id; None if they lack the lists for it."""
    offsets = _ByteOffsets(styles)
    if not {"fills", "cellXfs"} <= offsets.ends.keys():
        return styles, None
    (fills, of_fills), (formats, of_formats) = offsets.starts["fills"], offsets.starts["cellXfs"]
    fill, number = int(of_fills.get("count", 0)), int(of_formats.get("count", 0))
    if not fill or not number:
        return styles, None
    edits = [
        (offsets.ends["fills"],) * 2 + (_FILL.format(offsets.prefix),),
        (offsets.ends["cellXfs"],) * 2 + (_STYLE.format(offsets.prefix, fill),),
        (*_count_span(styles, fills), str(fill + 1)),
        (*_count_span(styles, formats), str(number + 1)),
    ]
    return _apply_edits(styles, edits), number


def _cell(prefix: str, reference: str, text: str, style: int | None) -> str:
    style_attribute = "" if style is None else f' s="{style}"'
    content = f"<{prefix}is><{prefix}t>{escape(escape_ooxml(text))}</{prefix}t></{prefix}is>"
    return f'<{prefix}c r="{reference}"{style_attribute} t="inlineStr">{content}</{prefix}c>'


def _count_span(part: bytes, start: int) -> tuple[int, int]:
    """Where the digits of the element's attribute `count` are."""
    found = re.compile(rb"""\scount\s*=\s*["'](\d+)""").search(part, start)
    assert found is not None  # expat saw the attribute
    return found.span(1)


def _apply_edits(part: bytes, edits: list[tuple[int, int, str]]) -> bytes:
    pieces, at = [], 0
    for start, end, text in sorted(edits):
        pieces += [part[at:start], text.encode()]
        at = end
    return b"".join([*pieces, part[at:]])

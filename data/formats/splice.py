"""Adds cells to a sheet, and a fill to the styles, and leaves every other byte as it is.

So whatever else a person's workbook holds (charts, pictures, formulas) is still there, which no
library that loads and saves workbooks promises. Pure: parts in, parts out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from openpyxl.utils.cell import column_index_from_string, get_column_letter

from data.formats.package import no_doctype
from data.formats.pages import escaped

_FILL = (
    '<{0}fill><{0}patternFill patternType="solid"><{0}fgColor rgb="FFFFC7CE"/>'
    "</{0}patternFill></{0}fill>"
)
_STYLE = '<{0}xf numFmtId="0" fontId="0" fillId="{1}" borderId="0" xfId="0" applyFill="1"/>'


@dataclass(slots=True)
class _Places:
    """Where in a part things begin and end, in bytes; `prefix` is the namespace's, with its colon."""

    prefix: str = ""
    columns: int = 0
    row_ends: dict[int, int] = field(default_factory=dict)
    starts: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)


def add_cells(sheet: bytes, texts: Mapping[int, str], style: int | None) -> bytes:
    """The sheet with a text in a new last column of each of these rows, if they are there."""
    places = _find(sheet)
    column = get_column_letter(places.columns + 1)
    edits = [
        (end, end, _cell(places.prefix, f"{column}{row}", texts[row], style))
        for row, end in places.row_ends.items()
        if row in texts
    ]
    if "dimension" in places.starts:  # what it says is no longer true, and it may be left out
        start, end = places.starts["dimension"][0], sheet.index(b">", places.ends["dimension"] - 1)
        edits.append((start, end + 1, ""))
    return _edited(sheet, edits)


def add_fill(styles: bytes) -> tuple[bytes, int | None]:
    """The styles with one more, and its number; None if they have no lists to add it to."""
    places = _find(styles)
    if not {"fills", "cellXfs"} <= places.ends.keys():
        return styles, None
    (fills, of_fills), (formats, of_formats) = places.starts["fills"], places.starts["cellXfs"]
    fill, number = int(of_fills.get("count", 0)), int(of_formats.get("count", 0))
    if not fill or not number:
        return styles, None
    edits = [
        (places.ends["fills"],) * 2 + (_FILL.format(places.prefix),),
        (places.ends["cellXfs"],) * 2 + (_STYLE.format(places.prefix, fill),),
        (*_count(styles, fills), str(fill + 1)),
        (*_count(styles, formats), str(number + 1)),
    ]
    return _edited(styles, edits), number


def _cell(prefix: str, place: str, text: str, style: int | None) -> str:
    look = "" if style is None else f' s="{style}"'
    content = f"<{prefix}is><{prefix}t>{escape(escaped(text))}</{prefix}t></{prefix}is>"
    return f'<{prefix}c r="{place}"{look} t="inlineStr">{content}</{prefix}c>'


def _count(part: bytes, start: int) -> tuple[int, int]:
    found = re.compile(rb"""\scount\s*=\s*["'](\d+)""").search(part, start)
    assert found is not None  # expat saw the attribute
    return found.span(1)


def _edited(part: bytes, edits: list[tuple[int, int, str]]) -> bytes:
    pieces, at = [], 0
    for start, end, text in sorted(edits):
        pieces += [part[at:start], text.encode()]
        at = end
    return b"".join([*pieces, part[at:]])


def _find(part: bytes) -> _Places:
    places = _Places()
    parser = expat.ParserCreate()
    row = column = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal row, column
        before, _, tag = name.rpartition(":")
        if tag == "row":
            row, column = int(attributes.get("r", row + 1)), 0
        elif tag == "c":
            place = attributes.get("r", "").rstrip("0123456789")
            column = column_index_from_string(place) if place else column + 1
            places.columns = max(places.columns, column)
        elif tag in ("worksheet", "styleSheet"):
            places.prefix = f"{before}:" if before else ""
        elif tag in ("dimension", "fills", "cellXfs"):
            places.starts.setdefault(tag, (parser.CurrentByteIndex, attributes))

    def end(name: str) -> None:
        tag = name.rpartition(":")[2]
        if tag == "row":
            if part.startswith(b"</", parser.CurrentByteIndex):  # else it is empty
                places.row_ends[row] = parser.CurrentByteIndex
        elif tag in ("dimension", "fills", "cellXfs"):
            places.ends.setdefault(tag, parser.CurrentByteIndex)

    parser.StartDoctypeDeclHandler = no_doctype
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(part, True)
    return places

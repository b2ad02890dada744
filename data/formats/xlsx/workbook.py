"""An open .xlsx: its visible sheets, shared strings and date styles (ECMA-376, part 1)."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format

from data.formats.xlsx.cells import (
    DateStyles,
    MergedRange,
    SheetRow,
    iter_rows,
    read_merged_ranges,
    read_shared_strings,
)
from data.formats.xlsx.package import open_package, parse_part, wrap_package_errors

JAPANESE_DATE_FORMAT_IDS = frozenset((*range(27, 37), *range(50, 59)))
"""Built-in formats that are dates in a Japanese Excel (ECMA-376, part 1, 18.8.30)."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A worksheet; `part` is its file in the package."""

    title: str
    part: str


@dataclass(frozen=True, slots=True)
class XlsxWorkbook:
    """An open workbook. `sheets` are the visible ones, in order."""

    name: str
    package: zipfile.ZipFile
    sheets: tuple[Sheet, ...]
    styles_part: str | None
    _shared_strings: list[str]
    _date_styles: DateStyles

    def rows(self, sheet: Sheet) -> Generator[SheetRow]:
        """Numbers and cells of the rows that are not empty.

        Raises:
            ImportRefused: the sheet is damaged.
        """
        with wrap_package_errors(self.name), self.package.open(sheet.part) as part:
            yield from iter_rows(part, self._shared_strings, self._date_styles)

    def merged_ranges(self, sheet: Sheet) -> list[MergedRange]:
        with wrap_package_errors(self.name), self.package.open(sheet.part) as part:
            return read_merged_ranges(part)


@contextmanager
def open_workbook(path: Path, name: str) -> Iterator[XlsxWorkbook]:
    """The workbook at `path`.

    Raises:
        ImportRefused: it cannot be read.
    """
    with open_package(path, name) as package:
        main = _targets(package, "")["officeDocument"][0]
        tree = parse_part(package, main)
        targets = _targets(package, main)
        styles = next(iter(targets.get("styles", ())), None)
        texts: list[str] = []
        for shared in targets.get("sharedStrings", ()):
            with package.open(shared) as part:
                texts = read_shared_strings(part)
        sheets = tuple(_sheets(tree, package, main))
        properties = tree.iterfind(".//{*}workbookPr")
        from_1904 = any(one.get("date1904") in ("1", "true") for one in properties)
        style = DateStyles(_date_style_ids(package, styles), from_1904)
    # reopened, so that errors in the caller's block are not reported as a damaged package
    with zipfile.ZipFile(path) as package:
        yield XlsxWorkbook(name, package, sheets, styles, texts, style)


def _relationships(package: zipfile.ZipFile, part: str) -> Iterator[tuple[str, str, str]]:
    """The id, type and target of a part's relationships; part "" is the package itself."""
    folder, name = posixpath.split(part)
    for one in parse_part(package, posixpath.join(folder, "_rels", f"{name}.rels")):
        if one.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", folder, one.get("Target", "")))
            yield one.get("Id", ""), one.get("Type", "").rpartition("/")[2], target.lstrip("/")


def _targets(package: zipfile.ZipFile, part: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for _, kind, target in _relationships(package, part):
        found.setdefault(kind, []).append(target)
    return found


def _sheets(tree: Element, package: zipfile.ZipFile, main: str) -> Iterator[Sheet]:
    parts = {id_: (kind, target) for id_, kind, target in _relationships(package, main)}
    for one in tree.iterfind(".//{*}sheet"):
        if one.get("state", "visible") != "visible":
            continue
        id_ = next((value for key, value in one.attrib.items() if key.endswith("}id")), "")
        kind, target = parts[id_]
        if kind == "worksheet":
            yield Sheet(one.get("name", ""), target)


def _date_style_ids(package: zipfile.ZipFile, styles: str | None) -> frozenset[int]:
    """The ids of the cell styles that show a date or a time."""
    if styles is None:
        return frozenset()
    tree = parse_part(package, styles)
    codes = dict(BUILTIN_FORMATS)
    for one in tree.iterfind(".//{*}numFmt"):
        codes[int(one.get("numFmtId", "0"))] = one.get("formatCode", "")
    numbers = [int(one.get("numFmtId", "0")) for one in tree.iterfind("{*}cellXfs/*")]
    return frozenset(
        style
        for style, number in enumerate(numbers)
        if is_date_format(codes.get(number, "")) or (number in JAPANESE_DATE_FORMAT_IDS)
    )

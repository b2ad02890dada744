"""An open .xlsx: its visible sheets, shared strings and number formats (ECMA-376, part 1).

Parts that no cell needs may be missing from the file: other sheets, styles, strings.
"""

from __future__ import annotations

import posixpath
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from data.formats.xlsx.cells import (
    Hidden,
    MergedRange,
    SheetRow,
    iter_rows,
    read_merged_ranges,
    read_shared_strings,
)
from data.formats.xlsx.number_formats import NumberFormats, format_code, whole_number
from data.formats.xlsx.package import Package, open_package, wrap_package_errors

DEFAULT_MAIN_PART = "xl/workbook.xml"
MAX_TITLE_CHARS = 100
"""Excel allows 31."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A worksheet; `part` is its file in the package."""

    title: str
    part: str


@dataclass(frozen=True, slots=True)
class XlsxWorkbook:
    """An open workbook. `sheets` are the visible ones, in order; `missing` the titles of those that
    are named but not in the file."""

    name: str
    package: Package
    sheets: tuple[Sheet, ...]
    missing: tuple[str, ...]
    styles_part: str | None
    _shared_strings: list[str]
    _formats: NumberFormats

    def rows(self, sheet: Sheet, hidden: Hidden | None = None) -> Generator[SheetRow]:
        """Numbers and cells of the visible rows that are not empty; counts the others in `hidden`.

        Raises:
            ImportRefused: the sheet is damaged.
        """
        with wrap_package_errors(self.name), self.package.open(sheet.part) as part:
            counted = Hidden() if hidden is None else hidden
            yield from iter_rows(part, self._shared_strings, self._formats, counted)

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
        with wrap_package_errors(name):
            workbook = _open(package, name)
        yield workbook


def _open(package: Package, name: str) -> XlsxWorkbook:
    main = next(iter(_parts(package, "", "officeDocument")), DEFAULT_MAIN_PART)
    tree = package.parse(main)
    styles = next(iter(_parts(package, main, "styles")), None)
    texts: list[str] = []
    for shared in _parts(package, main, "sharedStrings")[:1]:
        with package.open(shared) as part:
            texts = read_shared_strings(part)
    properties = tree.iterfind(".//{*}workbookPr")
    from_1904 = any(one.get("date1904") in ("1", "true") for one in properties)
    formats = NumberFormats(_codes(package, styles), from_1904)
    sheets, missing = _sheets(tree, package, main)
    if missing and not sheets:
        raise KeyError(missing[0])
    return XlsxWorkbook(name, package, sheets, missing, styles, texts, formats)


def _relationships(package: Package, part: str) -> Iterator[tuple[str, str, str]]:
    """The id, type and target of a part's relationships; part "" is the package itself."""
    folder, name = posixpath.split(part)
    relations = posixpath.join(folder, "_rels", f"{name}.rels")
    if not package.find(relations):
        return
    for one in package.parse(relations):
        if one.get("TargetMode") != "External":
            target = posixpath.join("/", folder, one.get("Target", "").replace("\\", "/"))
            yield one.get("Id", ""), one.get("Type", "").rpartition("/")[2], target


def _parts(package: Package, part: str, kind: str) -> list[str]:
    """The parts of a kind that a part refers to and that are in the file, by their real names."""
    targets = (target for _, one, target in _relationships(package, part) if one == kind)
    return [found for target in targets if (found := package.find(target))]


def _sheets(
    tree: Element, package: Package, main: str
) -> tuple[tuple[Sheet, ...], tuple[str, ...]]:
    """The visible worksheets, each part once, and the titles of those that are not in the file."""
    parts = {id_: (kind, target) for id_, kind, target in _relationships(package, main)}
    sheets: dict[str, Sheet] = {}
    missing: dict[str, None] = {}
    for one in tree.iterfind(".//{*}sheet"):
        if one.get("state", "visible") != "visible":
            continue
        title = one.get("name", "")[:MAX_TITLE_CHARS]
        id_ = next((value for key, value in one.attrib.items() if key.endswith("}id")), "")
        kind, target = parts.get(id_, ("", ""))
        if kind not in ("worksheet", ""):
            continue
        if kind and (part := package.find(target)):
            sheets.setdefault(part, Sheet(title, part))
        else:
            missing[title] = None
    return tuple(sheets.values()), tuple(missing)


def _codes(package: Package, styles: str | None) -> list[str]:
    """The number format of each cell style."""
    if styles is None:
        return []
    tree = package.parse(styles)
    custom = {
        whole_number(one.get("numFmtId")): one.get("formatCode", "")
        for one in tree.iterfind(".//{*}numFmt")
    }
    ids = [whole_number(one.get("numFmtId")) for one in tree.iterfind("{*}cellXfs/*")]
    return [format_code(id_, custom) for id_ in ids]

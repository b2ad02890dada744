"""Files that must not be read: each is refused with a sentence that says what to do."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from openpyxl import Workbook

from core.errors import ImportRefused
from core.records import Pair
from data.formats import import_result
from data.formats.files import read_pairs, write_pairs
from data.formats.import_result import RowError
from data.formats.xlsx import cells
from data.formats.xlsx.package import OLE_MAGIC

SHEET = "xl/worksheets/sheet1.xml"


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    book = Workbook()
    book.active.append(["user", "bot"])
    book.active.append(["q", "a"])
    path = tmp_path / "pairs.xlsx"
    book.save(path)
    return path


def changed(path: Path, part: str, content: bytes) -> Path:
    """The workbook with another part, or one more."""
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, old in {**parts, part: content}.items():
            package.writestr(name, content if name == part else old)
    return path


def refusal(path: Path, **options: int) -> str:
    with pytest.raises(ImportRefused) as caught:
        read_pairs(path, **options)  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("pairs.docx", b"PK\x03\x04", "save it as .xlsx, .csv"),
        ("pairs", b"user,bot", "save it as .xlsx, .csv"),
        ("pairs.xlsx", b"user,bot\nq,a\n", "is no Excel workbook"),
        ("pairs.xls", OLE_MAGIC + b"Workbook", "old Excel format (.xls): save it as .xlsx"),
        ("pairs.xlsx", OLE_MAGIC + b"Workbook", "old Excel format"),
        (
            "pairs.xlsx",
            OLE_MAGIC + "EncryptedPackage".encode("utf-16-le"),
            "protected by a password",
        ),
        ("pairs.xlsm", b"PK\x03\x04", "is named .xlsm but is no Excel workbook"),
        ("pairs.xlsb", b"PK\x03\x04", "binary workbook or an add-in: save it as .xlsx"),
        ("pairs.csv", b"", "is empty"),
        ("pairs.json", b"\x89PNG\0\0", "holds no text"),
        ("pairs.json", b"[{]", "mistake in line 1, column 3"),
        ("pairs.json", b"[" * 100_000, "nested too deep"),
        ("pairs.json", b"[" + b"1" * 5000 + b"]", "number too long"),
        ("pairs.json", b"{}", "must be a list"),
        ("pairs.json", b'{"user": "q"}\n{"user": "q"}\n', "name it .jsonl"),
        ("pairs.jsonl", b'[\n{"user": "q", "bot": "a"}\n]', "name it .json"),
        ("pairs.yml", b"a: [", "is no YAML"),
        ("pairs.yml", b"categories: [a]", "no list of “conversations”"),
        ("pairs.yml", b"conversations:\n- - a\n  - &b b\n- *b\n", "has aliases"),
        ("pairs.yml", b"conversations: " + b"[" * 50 + b"]" * 50, "nested too deep"),
        ("pairs.csv", "é,b\n".encode("latin-1") * 5, "neither UTF-8 nor Shift_JIS"),
        ("pairs.yml", "conversations: [[あ,\n い,\n".encode() + b"\xff]]", "not UTF-8 throughout"),
        ("pairs.jsonl", b"\xff\xff\xff", "neither UTF-8 nor Shift_JIS"),
    ],
)
def test_no_file_of_pairs(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert says in refusal(path)


def test_no_file_at_all(tmp_path: Path) -> None:
    assert "none.csv cannot be opened: No such file" in refusal(tmp_path / "none.csv")


def test_a_workbook_by_another_name(workbook: Path) -> None:
    assert "is an Excel workbook" in refusal(workbook.rename(workbook.with_name("pairs.csv")))


def test_another_zip(tmp_path: Path) -> None:
    path = tmp_path / "pairs.xlsx"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("readme.txt", "hello")
    assert "is no Excel workbook" in refusal(path)


def test_too_big_a_file(workbook: Path) -> None:
    assert "over the limit of 0.001 MB" in refusal(workbook, max_bytes=1000)


def test_a_zip_bomb_by_its_ratio(workbook: Path) -> None:
    assert "as no real workbook does" in refusal(changed(workbook, SHEET, b" " * 50_000_000))


def test_a_zip_bomb_by_its_size(workbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.formats.xlsx.package.MAX_UNZIPPED_BYTES", 1000)
    assert "split it" in refusal(workbook)


def test_a_zip_that_lies_about_its_size(workbook: Path) -> None:
    """What is unpacked stops at the size that was declared, and then the checksum is wrong."""
    changed(workbook, SHEET, b"<worksheet>" + b" " * 1_000_000)
    size, lie = (1_000_011).to_bytes(4, "little"), (1011).to_bytes(4, "little")
    content = workbook.read_bytes()
    assert content.count(size) == 2
    workbook.write_bytes(content.replace(size, lie))
    assert "is damaged" in refusal(workbook)


def test_external_entities(workbook: Path) -> None:
    entity = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><worksheet>&x;</worksheet>'
    for part in (SHEET, "xl/sharedStrings.xml", "xl/workbook.xml", "xl/styles.xml"):
        assert "refers to other files" in refusal(changed(workbook, part, entity))


@pytest.mark.parametrize(
    "content", [b"", b"<worksheet><sheetData><row><c t='s'><v>99</v></c></row>", b"<a><b></a>"]
)
def test_a_damaged_sheet(workbook: Path, content: bytes) -> None:
    assert "is damaged" in refusal(changed(workbook, SHEET, content))


def test_half_a_workbook(workbook: Path) -> None:
    content = workbook.read_bytes()
    workbook.write_bytes(content[: len(content) // 2])
    assert "is no Excel workbook" in refusal(workbook)


def test_too_many_rows(workbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_result, "MAX_ROWS", 0)
    assert "split it into parts" in refusal(workbook)


RELATIONS = "xl/_rels/workbook.xml.rels"


def with_parts(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The workbook with its parts changed by name."""
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return path


def append_rows(parts: dict[str, bytes], rows: bytes, after: bytes = b"") -> None:
    end = b"</sheetData>"
    parts[SHEET] = parts[SHEET].replace(end, rows + end + after)


@pytest.mark.parametrize(
    ("target", "part"),
    [
        (b"worksheets/Sheet1.xml", SHEET),
        (b"WORKSHEETS/sheet1.XML", SHEET),
        (b"worksheets/sheet1.xml", "XL/Worksheets/SHEET1.xml"),
        (b"worksheets\\sheet1.xml", SHEET),
        (b"worksheets/sheet1.xml", "xl\\worksheets\\sheet1.xml"),
        (b"/xl/worksheets/sheet1.xml", SHEET),
        (b"./x/../worksheets/sheet1.xml", SHEET),
        (b"worksheets/sheet%201.xml", "xl/worksheets/sheet 1.xml"),
        (b"worksheets/sheet 1.xml", "xl/worksheets/sheet%201.xml"),
    ],
)
def test_parts_are_found_as_excel_finds_them(workbook: Path, target: bytes, part: str) -> None:
    def change(parts: dict[str, bytes]) -> None:
        parts[RELATIONS] = parts[RELATIONS].replace(b"/xl/worksheets/sheet1.xml", target)
        parts[part] = parts.pop(SHEET)

    found = read_pairs(with_parts(workbook, change))
    assert found.pairs == (Pair("q", "a"),)
    assert found.notes == ()


def test_the_shared_strings_and_the_package_in_another_case(workbook: Path) -> None:
    def change(parts: dict[str, bytes]) -> None:
        strings = b'<Relationship Id="s" Type="x/sharedStrings" Target="sharedStrings.xml"/>'
        parts[RELATIONS] = parts[RELATIONS].replace(b"</Rel", strings + b"</Rel")
        parts["xl/SharedStrings.xml"] = b"<sst><si><t>shared</t></si></sst>"
        cell = b'<c t="s"><v>0</v></c>'
        append_rows(parts, b"<row>" + 2 * cell + b"</row>")
        for name in ("[Content_Types].xml", "_rels/.rels", RELATIONS):
            parts[name.swapcase()] = parts.pop(name)

    found = read_pairs(with_parts(workbook, change))
    assert found.pairs == (Pair("q", "a"), Pair("shared", "shared"))


@pytest.mark.parametrize("part", ["xl/styles.xml", "xl/theme/theme1.xml", "docProps/core.xml"])
def test_a_part_that_is_missing_and_not_needed(workbook: Path, part: str) -> None:
    found = read_pairs(with_parts(workbook, lambda parts: parts.__delitem__(part)))
    assert found.pairs == (Pair("q", "a"),)


def test_another_sheet_that_is_missing_is_told(workbook: Path) -> None:
    def change(parts: dict[str, bytes]) -> None:
        sheets = parts["xl/workbook.xml"].partition(b"<sheets>")
        more = b'<sheet name="gone" sheetId="9" state="visible" r:id="rId77"/>'
        declared = b'<sheets xmlns:r="http://relations">'
        parts["xl/workbook.xml"] = sheets[0] + declared + more + sheets[2]

    found = read_pairs(with_parts(workbook, change))
    assert found.pairs == (Pair("q", "a"),)
    assert found.notes == (
        "The sheet “gone” is listed in the workbook, but its content is missing.",
    )


def test_without_the_only_sheet_it_is_damaged(workbook: Path) -> None:
    assert "is damaged" in refusal(with_parts(workbook, lambda parts: parts.__delitem__(SHEET)))


@pytest.mark.parametrize(
    "cell",
    [
        b'<c t="s"><v>99</v></c>',
        b'<c t="s"><v>x</v></c>',
        b'<c t="s"><v>-1</v></c>',
        b"<c><v>many</v></c>",
    ],
)
def test_a_cell_that_cannot_be_read_is_one_wrong_row(workbook: Path, cell: bytes) -> None:
    row = b'<row><c t="inlineStr"><is><t>q2</t></is></c>' + cell + b"</row>"
    found = read_pairs(with_parts(workbook, lambda parts: append_rows(parts, row)))
    assert found.pairs == (Pair("q", "a"),)
    assert found.errors == (RowError(3, "A cell cannot be read: write its text again.", "Sheet"),)


def test_attributes_that_are_no_numbers_do_no_harm(workbook: Path) -> None:
    row = b'<row r="x"><c r="?" s="y" t="n"><v>1</v></c><c r="B" s="99"><v>2</v></c></row>'
    merges = b'<mergeCells><mergeCell ref="nowhere"/><mergeCell/></mergeCells>'
    found = read_pairs(with_parts(workbook, lambda parts: append_rows(parts, row, merges)))
    assert found.pairs == (Pair("q", "a"), Pair("1", "2"))


@pytest.mark.parametrize("name", ["pairs.xlsx", "pairs.xlsm"])
def test_macros_are_not_run_and_the_values_are_read(workbook: Path, name: str) -> None:
    """As Excel writes it: the kind of the main part says that there are macros."""

    def change(parts: dict[str, bytes]) -> None:
        kinds = parts["[Content_Types].xml"]
        parts["[Content_Types].xml"] = kinds.replace(
            b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
            b"application/vnd.ms-excel.sheet.macroEnabled.main+xml",
        )
        parts["xl/vbaProject.bin"] = OLE_MAGIC + b"Sub Auto_Open()"

    path = with_parts(workbook, change).rename(workbook.with_name(name))
    assert read_pairs(path).pairs == (Pair("q", "a"),)


def test_a_workbook_with_macros_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"save it as \.xlsx"):
        write_pairs([Pair("q", "a")], tmp_path / "pairs.xlsm")


def test_many_names_of_one_sheet_are_one_sheet(workbook: Path) -> None:
    def change(parts: dict[str, bytes]) -> None:
        before, sheet, after = re.split(rb"(<sheet [^>]*/>)", parts["xl/workbook.xml"])
        parts["xl/workbook.xml"] = before + sheet * 10_000 + after

    found = read_pairs(with_parts(workbook, change))
    assert (found.pairs, found.rows) == ((Pair("q", "a"),), 1)


def test_cells_that_share_a_long_text_are_counted(workbook: Path) -> None:
    assert "holds over 1 characters of text: split it" in refusal(workbook, max_chars=1)


def test_too_many_wrong_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_result, "MAX_ERRORS", 2)
    path = tmp_path / "pairs.jsonl"
    path.write_text("x\n" * 3)
    assert "Over 2 rows are wrong, the first of them row 1: This line is no JSON." in refusal(path)


@pytest.mark.parametrize("rows", [b"<row/>" * 6, b"<row>" + b"<c/>" * 6 + b"</row>"])
def test_too_many_empty_cells(workbook: Path, monkeypatch: pytest.MonkeyPatch, rows: bytes) -> None:
    monkeypatch.setattr(cells, "MAX_EMPTY", 5)
    with_parts(workbook, lambda parts: append_rows(parts, rows))
    assert "A sheet has over 5 empty cells and rows: delete those" in refusal(workbook)


@pytest.mark.parametrize("hidden", [b'hidden="true"', b'ht="0" customHeight="1"'])
def test_rows_that_nobody_sees(workbook: Path, hidden: bytes) -> None:
    cell = b'<c t="inlineStr"><is><t>x</t></is></c>'
    row = b"<row %s>%s</row>" % (hidden, 2 * cell)
    found = read_pairs(with_parts(workbook, lambda parts: append_rows(parts, row)))
    assert found.pairs == (Pair("q", "a"),)
    assert found.notes == ("Hidden rows of the sheet “Sheet” that were left out: 1.",)

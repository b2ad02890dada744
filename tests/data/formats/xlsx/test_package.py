"""Files that must not be read: each is refused with a sentence that says what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook

from core.errors import ImportRefused
from data.formats import import_result
from data.formats.files import read_pairs
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
        ("pairs.xlsm", b"PK\x03\x04", "has macros"),
        ("pairs.csv", b"", "is empty"),
        ("pairs.json", b"\x89PNG\0\0", "holds no text"),
        ("pairs.json", b"[{]", "mistake in line 1, column 3"),
        ("pairs.json", b"[" * 100_000, "nested too deep"),
        ("pairs.json", b"[" + b"1" * 5000 + b"]", "number too long"),
        ("pairs.json", b"{}", "must be a list"),
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


def test_macros(workbook: Path) -> None:
    assert "has macros" in refusal(changed(workbook, "xl/vbaProject.bin", b"x"))


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

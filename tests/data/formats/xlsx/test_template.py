"""The workbook to fill in: empty it gives nothing, filled in it gives what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import load_workbook

from core.records import Pair
from data.formats.files import read_pairs
from data.formats.import_result import ImportResult
from data.formats.xlsx.template import write_template_workbook


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "template.xlsx"
    write_template_workbook(path)
    return path


def test_untouched_it_gives_no_pairs(path: Path) -> None:
    assert read_pairs(path) == ImportResult((), (), (), 0)


def test_filled_in(path: Path) -> None:
    book = load_workbook(path)
    book["conversations"].append(["q", "a", "c", 1, "own", "r; s"])
    book.save(path)
    assert read_pairs(path).pairs == (
        Pair("q", "a", "c", 1, "own"),
        Pair("r", "a", source="own"),
        Pair("s", "a", source="own"),
    )


def test_the_example_is_right(path: Path) -> None:
    book = load_workbook(path)
    book["example (not imported)"].title = "example"
    book.save(path)
    found = read_pairs(path)
    assert found.errors == ()
    assert found.pairs == (
        Pair("Hello!", "Hi! Nice to see you.", source="own"),
        Pair("What do you like?", "I like tea. And rain.", source="own"),
        Pair("Any hobbies?", "I like tea. And rain.", source="own"),
        Pair("猫は好き？", "好きです。とても！", source="own"),
        Pair("猫派？", "好きです。とても！", source="own"),
        Pair("猫をどう思う？", "好きです。とても！", source="own"),
        Pair("Do you know Kyoto?", "Yes, a little.", "kyoto", 1, "chat log"),
        Pair("Is it far?", "Two hours by train.", "kyoto", 2, "chat log"),
        Pair("Tell me a secret.", "I am afraid of thunder. Please tell no one.", source="own"),
    )


def test_it_helps(path: Path) -> None:
    sheet = load_workbook(path)["conversations"]
    assert sheet.freeze_panes == "A2"
    assert all(sheet.cell(1, column).comment for column in range(1, 7))
    assert {one.type for one in sheet.data_validations.dataValidation} == {"whole", "list"}


def test_the_same_bytes_each_time(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.xlsx"
    write_template_workbook(again)
    assert again.read_bytes() == path.read_bytes()


def test_it_joins_cells_inside_of_excel(path: Path) -> None:
    """The prefix is what Excel writes; without it the cell shows #NAME?. What Excel stores beside
    the formulas is not imported, as it stands in “conversations” once it was copied."""
    book = load_workbook(path)
    sheet = book["join 結合 (not imported)"]
    assert sheet["A5"].value == "=_xlfn.TEXTJOIN($B$1,TRUE,C5:H5)"
    assert sheet["B204"].value == "=_xlfn.TEXTJOIN($B$1,TRUE,I204:N204)"
    assert [sheet.cell(4, column).value for column in (1, 2, 3, 8, 9, 14)] == [
        "user", "bot", "user 1", "user 6", "bot 1", "bot 6",
    ]  # fmt: skip
    assert sheet["B1"].value == " "
    for column, text in (("C", "Hi."), ("D", "It's me."), ("I", "Hello."), ("A", "Hi. It's me.")):
        sheet[f"{column}5"] = text
    book.save(path)
    assert read_pairs(path) == ImportResult((), (), (), 0)

"""The copy with the reasons: nothing is lost, and what was good is read as before."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.chart import BarChart, Reference

from data.formats.files import read_pairs, write_annotated_copy

ROWS: list[list[Any]] = [
    ["user", "bot", None, "memo"],
    ["q", "a", None, 1],
    ["no answer", None, None, "=1+1"],
    ["q", "x" * 5000, None, 3],
    [],
    [None, "no question"],
]


def test_a_workbook(tmp_path: Path) -> None:
    book = Workbook()
    for row in [*ROWS[:2], [], *ROWS[2:]]:
        book.active.append(row)
    other = book.create_sheet("other")
    other["B2"] = "kept"
    chart = BarChart()
    chart.add_data(Reference(other, min_col=2, min_row=2))
    other.add_chart(chart)
    path, out = tmp_path / "pairs.xlsx", tmp_path / "marked.xlsx"
    book.save(path)
    found = read_pairs(path)
    write_annotated_copy(path, found.errors, out)
    marked = load_workbook(out)
    sheet = marked["Sheet"]
    assert [cell.value and cell.value[:12] for cell in sheet["E"]] == [
        "problem",
        None,
        None,
        "The bot's te",
        "The text of ",
        None,
        "The user's t",
    ]
    assert sheet["E4"].fill.fgColor.rgb == "FFFFC7CE"
    assert sheet["D4"].value == "=1+1"
    assert marked["other"]["B2"].value == "kept"
    assert read_pairs(out) == found
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out) as new:
        assert new.namelist() == old.namelist()
        changed = [name for name in old.namelist() if old.read(name) != new.read(name)]
    assert sorted(changed) == [
        "xl/styles.xml",
        "xl/worksheets/sheet1.xml",
        "xl/worksheets/sheet2.xml",
    ]


def test_a_workbook_of_libreoffice(tmp_path: Path) -> None:
    path, out = Path(__file__).parent / "xlsx" / "libreoffice.xlsx", tmp_path / "marked.xlsx"
    write_annotated_copy(path, read_pairs(path).errors, out)
    assert load_workbook(out)["会話"]["H11"].value == "A cell holds the error #DIV/0!."
    assert read_pairs(out) == read_pairs(path)


def test_without_headings_and_below_blank_rows(tmp_path: Path) -> None:
    book = Workbook()
    for row in [[], [], [None, "hi"], [], [None, "hi", "ho"], [], [None, None, "alone"]]:
        book.active.append(row)
    path, out = tmp_path / "pairs.xlsx", tmp_path / "marked.xlsx"
    book.save(path)
    found = read_pairs(path)
    assert [one.row for one in found.errors] == [3, 7]
    write_annotated_copy(path, found.errors, out)
    assert load_workbook(out).active["D3"].value == "problem: The bot's text is missing."
    assert read_pairs(out) == found


@pytest.mark.parametrize("heading", [True, False])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv(tmp_path: Path, delimiter: str, heading: bool) -> None:
    path, out = tmp_path / "pairs.csv", tmp_path / "marked.csv"
    rows = [f"user{delimiter}bot"] * heading + [f"alone{delimiter}", "", f"q{delimiter}'=1", "x"]
    path.write_text("\n".join(rows))
    found = read_pairs(path)
    write_annotated_copy(path, found.errors, out)
    assert read_pairs(out) == found
    lines = out.read_text(encoding="utf-8-sig").splitlines()
    assert lines[-2] == f"q{delimiter}'=1"
    assert lines[0].split(delimiter)[2].startswith("problem")
    assert "The bot's text is missing." in lines[heading]


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_records(tmp_path: Path, ending: str) -> None:
    path, out = tmp_path / f"pairs{ending}", tmp_path / "wrong.jsonl"
    records: list[Any] = [{"user": "q", "bot": "a"}, {"user": "q"}]
    path.write_text(
        json.dumps(records) if ending == ".json" else "\n".join(map(json.dumps, records))
    )
    write_annotated_copy(path, read_pairs(path).errors, out)
    [line] = out.read_text(encoding="utf-8").splitlines()
    wrong = json.loads(line)
    assert wrong["row"] == 2
    assert wrong["problem"].startswith("This is no")
    assert wrong["record"] in (records[1], json.dumps(records[1]))


@pytest.mark.parametrize(("first", "last"), [(3, 16384), (3, 3), (3, 4)])
def test_the_new_column_of_a_workbook_is_seen(tmp_path: Path, first: int, last: int) -> None:
    book = Workbook()
    for row in (["user", "bot"], ["q", None], ["q2", "a"]):
        book.active.append(row)
    hidden = book.active.column_dimensions["C"]
    hidden.hidden, hidden.min, hidden.max = True, first, last
    book.save(tmp_path / "a.xlsx")
    write_annotated_copy(
        tmp_path / "a.xlsx", read_pairs(tmp_path / "a.xlsx").errors, tmp_path / "b.xlsx"
    )
    sheet = load_workbook(tmp_path / "b.xlsx").active
    assert sheet["C2"].value
    assert not sheet.column_dimensions["C"].hidden
    assert sheet.column_dimensions["D"].hidden == (last > 3)

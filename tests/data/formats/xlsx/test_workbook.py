"""Sheets as people make them: merged cells, formulas, numbers, dates, several sheets."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from core.records import Pair
from data.formats.files import read_pairs
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.xlsx.cells import FORMULA_WITHOUT_VALUE

Rows = list[list[Any]]
HEAD = ["user", "bot", "conversation", "turn", "source"]


def imported(tmp_path: Path, rows: Rows, merged: tuple[str, ...] = ()) -> ImportResult:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    for one in merged:
        book.active.merge_cells(one)
    return saved(tmp_path, book)


def saved(tmp_path: Path, book: Workbook) -> ImportResult:
    path = tmp_path / "pairs.xlsx"
    book.save(path)
    return read_pairs(path)


def test_a_file_of_libreoffice() -> None:
    found = read_pairs(Path(__file__).with_name("libreoffice.xlsx"))
    assert found.pairs == (
        Pair("こんにちは", "こんにちは。元気ですか？", "挨拶", 1, "自作"),
        Pair("元気です", "よかった", "挨拶", 2, "自作"),
        Pair("Hello there", "Hi. How are you? I am fine."),
        Pair("When?", "2025-06-01"),
        Pair("How many?", "42"),
        Pair("Sum?", "3"),
        Pair("Sum of texts?", "ab"),
    )
    assert found.errors == (
        RowError(11, "A cell holds the error #DIV/0!.", "会話"),
        RowError(2, "This sheet has no headings “user” and “bot”: it was left out.", "other"),
    )
    assert JoinedText(4, "Hello there", "会話") in found.joined


def test_numbers_dates_and_truth_become_text(tmp_path: Path) -> None:
    values = [
        (42, "42"),
        (-3, "-3"),
        (0.1 + 0.2, "0.3"),
        (True, "TRUE"),
        (date(2025, 6, 1), "2025-06-01"),
        (datetime(2025, 6, 1, 12, 30), "2025-06-01 12:30:00"),  # noqa: DTZ001
        (time(12, 30), "12:30:00"),
    ]
    found = imported(tmp_path, [HEAD, *(["q", value] for value, _ in values)])
    assert [pair.bot for pair in found.pairs] == [text for _, text in values]


def test_a_formula_without_a_value_is_not_evaluated(tmp_path: Path) -> None:
    found = imported(tmp_path, [HEAD, ["q", "=1+1"], ["q2", "a2"]])
    assert found.pairs == (Pair("q2", "a2"),)
    assert found.errors == (RowError(2, FORMULA_WITHOUT_VALUE, "Sheet"),)


def test_a_merged_conversation_names_all_of_its_rows(tmp_path: Path) -> None:
    rows: Rows = [HEAD, ["q", "a", "talk", None, "book"], ["q2", "a2"], ["q3", "a3"]]
    found = imported(tmp_path, rows, ("C2:C3", "E2:E4"))
    assert found.pairs == (
        Pair("q", "a", "talk", 1, "book"),
        Pair("q2", "a2", "talk", 2, "book"),
        Pair("q3", "a3", source="book"),
    )


def test_a_merged_text_is_one_utterance_of_all_of_its_rows(tmp_path: Path) -> None:
    rows: Rows = [HEAD, ["q", "a"], [None, "b"], ["q2", "a2"], ["more"]]
    found = imported(tmp_path, rows, ("A2:A3", "B4:B5"))
    assert found.pairs == (Pair("q", "a b"), Pair("q2 more", "a2"))


def test_a_merged_heading_and_a_merged_title(tmp_path: Path) -> None:
    rows: Rows = [["user", "bot", None], ["q", "a", "b"], ["Part two"], ["q2", "a2", None]]
    found = imported(tmp_path, rows, ("B1:C1", "A3:C3"))
    assert found.pairs == (Pair("q", "a b"), Pair("q2", "a2"))
    assert [one.row for one in found.errors] == [3]


def test_blank_rows_are_skipped_and_numbers_are_the_sheets(tmp_path: Path) -> None:
    found = imported(tmp_path, [[], HEAD, [], [], ["q", None], [], ["q", "a"]])
    assert found.pairs == (Pair("q", "a"),)
    assert [one.row for one in found.errors] == [5]
    assert found.rows == 2


def test_all_sheets_with_headings_are_read_and_hidden_ones_are_not(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(["Read me first"])
    for title, state in [("one", "visible"), ("two", "visible"), ("three", "hidden")]:
        sheet = book.create_sheet(title)
        sheet.sheet_state = state
        sheet.append(["ボット", "ユーザー"])
        sheet.append(["a", title])
    sheet = book.create_sheet("old (Not Imported)")
    sheet.append(HEAD)
    sheet.append(["q", "a"])
    book.create_sheet("empty")
    found = saved(tmp_path, book)
    assert found.pairs == (Pair("one", "a"), Pair("two", "a"))
    assert [(one.sheet, one.row) for one in found.errors] == [("Sheet", 1)]


def test_a_sheet_without_headings(tmp_path: Path) -> None:
    found = imported(tmp_path, [[], [None, "hi", "a", None, "b"], [None, "q2", "a2"]])
    assert found.pairs == (Pair("hi", "a b"), Pair("q2", "a2"))


@pytest.mark.parametrize("width", [30, 2000])
def test_far_cells(tmp_path: Path, width: int) -> None:
    found = imported(tmp_path, [HEAD[:2], ["q", "a", *[None] * width, "b"]])
    assert found.pairs == (Pair("q", "a b" if width < 256 else "a"),)


def test_escaped_characters_and_readings(tmp_path: Path) -> None:
    found = imported(tmp_path, [HEAD, ["a_x000D_b", "_x005F_x0041_"]])
    assert found.pairs == (Pair("a b", "_x0041_"),)


def test_an_emoji_written_as_two_escapes(tmp_path: Path) -> None:
    found = imported(tmp_path, [HEAD, ["_xD83D__xDE00_", "_xd83d_ alone"]])
    assert found.pairs == ()
    assert [one.reason for one in found.errors] == ["A cell cannot be read: write its text again."]
    assert imported(tmp_path, [HEAD, ["_xD83D__xDE00_", "a"]]).pairs == (Pair("😀", "a"),)


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (1.5, "[h]:mm:ss", "36:00:00"),
        (1.5, "[hh]:mm", "36:00"),
        (0.0625, "[mm]:ss", "90:00"),
        (0.001, "[ss]", "86"),
        (0.001, "[s].00", "86.40"),
        (-0.5, "[h]:mm", "-12:00"),
        (100.25, '[h]"時間"mm"分"', "2406時間00分"),
        (1.5, '[h]"h "mm"m"', "36h 00m"),
        (0.0625, '[m]"分"ss"秒";@', "90分00秒"),
        (1 / 3, "[h]:mm:ss", "8:00:00"),
        (0.5, "0%", "50%"),
        (0.125, "0.0%", "12.5%"),
        (7, "00000", "00007"),
        (1.5, "00", "1.5"),
        (1200, "#,##0", "1200"),
        (45296, "yyyy-mm-dd", "2024-01-05"),
        (0.5, "h:mm", "12:00"),
        (1.5, "h:mm", "12:00"),
        (0.378125, "[$-409]h:mm:ss;@", "9:04:30"),
        (0.378125, "hh:mm", "09:04"),
        (0.75, "h:mm AM/PM", "6:00 PM"),
        (0.378125, "hh:mm:ss AM/PM", "09:04:30 AM"),
        (0.0, "h:mm AM/PM", "12:00 AM"),
        (0.5, "h AM/PM", "12 PM"),
        (0.75, "h:mm A/P", "6:00 P"),
        (45296.75, '[$-411]AM/PM h"時"mm"分"', "PM 6時00分"),
        (0.0625, "mm:ss", "30:00"),
        (2 / 24, "mm:ss", "00:00"),
        (0.003125, "mm:ss", "04:30"),
        (0.0031255, "mm:ss.0", "04:30.0"),
        (0.003125, "[h]:mm", "0:04"),
        (45296.75, "yyyy-mm-dd h:mm AM/PM", "2024-01-05 18:00:00"),
        (1e305, "[h]:mm", "1e+305"),
        (1.75, 'h"時"mm"分"', "18時00分"),
        (0.9999999999, "h:mm", "0:00"),
        (0.125, "0%", "13%"),
        (0.145, "0%", "15%"),
        (0.005, "0%", "1%"),
        (-0.001, "0%", "0%"),
        (0.5, "0 %", "50 %"),
        (0.5, "0\\ %", "50 %"),
        (0.5, "#,##0%", "50%"),
        (0.5, '0"%"', "0.5"),
        (1e300, "0%", "1e+300"),
        (0.5, '0.0%_);[Red]"x"0.0%', "50.0%"),
        (7, "00000;@", "00007"),
        (7, '"No. "000', "No. 007"),
        (600001, "000\\-0000", "060-0001"),
        (12345678, "000-0000", "1234-5678"),
        (600001, "[<=999]000;[<=9999]000\\-00;000\\-0000", "060-0001"),
        (-7, "0000", "-0007"),
        (1.5, '0.0"h"', "1.5"),
        (45296, 'yyyy"年"m"月"d"日"', "2024-01-05"),
    ],
)
def test_numbers_as_their_cells_show_them(
    tmp_path: Path, value: float, code: str, shown: str
) -> None:
    book = Workbook()
    book.active.append(HEAD)
    book.active.append(["q", value])
    book.active["B2"].number_format = code
    assert saved(tmp_path, book).pairs == (Pair("q", shown),)


def test_hidden_rows_and_columns_are_left_out_and_told(tmp_path: Path) -> None:
    book = Workbook()
    for row in (["user", "bot", "bot"], ["q", "a", "old draft"], ["secret", "row"]):
        book.active.append(row)
    book.active.column_dimensions["C"].hidden = True
    book.active.row_dimensions[3].hidden = True
    found = saved(tmp_path, book)
    assert found.pairs == (Pair("q", "a"),)
    assert found.errors == ()
    assert found.notes == (
        "Hidden rows of the sheet “Sheet” that were left out: 1.",
        "Hidden columns of the sheet “Sheet” that were left out: 1.",
    )

"""The template workbook to fill in, with an example and notes, in English and Japanese."""

from __future__ import annotations

from pathlib import Path
from unicodedata import east_asian_width

from openpyxl import Workbook
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils.cell import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.worksheet import Worksheet

from core.files import write_atomically
from data.formats.xlsx.writer import COLUMN_WIDTHS, to_reproducible_bytes

HEADINGS = (
    ("user / ユーザー", "What a person says.\nユーザーの発言。"),
    ("bot / ボット", "What the bot answers.\nボットの返事。"),
    (
        "conversation / 会話",
        "The same name on each row of a conversation; empty if the pair stands alone.\n"
        "同じ会話の行には同じ名前。単独の行は空欄。",
    ),
    (
        "turn / 番号",
        "1, 2, 3 … in a conversation; may stay empty if the rows are in order.\n"
        "会話の中の順番 1、2、3…。行が順番どおりなら空欄でもよい。",
    ),
    ("source / 出所", "Where it comes from; may stay empty.\nどこから来たものか。空欄でもよい。"),
    (
        "also asked as / 別の聞き方",
        "Other ways to ask the same, separated by ; — each gets the same answer. May stay empty.\n"
        "同じことの別の聞き方。；で区切る。どれにも同じ返事をする。空欄でもよい。",
    ),
)
WIDTHS = (*COLUMN_WIDTHS[:5], 50)
SOURCES = "own,chat log,FAQ,book"
LAST_VALIDATED_ROW = 10_000
"""The last row whose cells are validated."""
EXAMPLE = (
    ("Hello!", "", "Hi! Nice to see you.", "", "", "", "own"),
    ("What do you like?", "", "I like tea.", "And rain.", "", "", "own", "Any hobbies?"),
    ("猫は好き？", "", "好きです。", "とても！", "", "", "own", "猫派？；猫をどう思う？"),
    ("Do you know Kyoto?", "", "Yes, a little.", "", "kyoto", 1, "chat log"),
    ("Is it far?", "", "Two hours by train.", "", "kyoto", 2, "chat log"),
    ("Tell me a secret.", "", "I am afraid of thunder.", "", "", "", "own"),
    ("", "", "Please tell no one.", "", "", "", ""),
)
PIECES = 6
"""The columns of each speaker on the sheet that joins cells."""
JOINED_ROWS = 200
JOINER_CELL = "$B$1"
JOIN_HEADER_ROW = 4
JOIN_HELP = (
    "Between the pieces / 間に入れる文字:",
    "Paste the pieces from column C on; copy columns A and B, and paste them as values into "
    "“conversations”. For Japanese, empty the yellow cell. Excel 2019 or newer, LibreOffice.",
    "C列から右に文の断片を貼り付け、A列とB列をコピーして「conversations」に「値」として貼り付けます。"
    "日本語だけなら黄色のセルを空にします。",
)
NOTE_WIDTH = 100
NOTES = (
    "Fill in the sheet “conversations”: one pair a row. Only that sheet is imported.",
    "「conversations」シートに、1行に1ペアずつ書きます。読み込むのはこのシートだけです。",
    "",
    "Sentences in several cells are joined: lines of one cell, and cells without a heading to the "
    "right of “user” or “bot”. Put an empty column there if you need one.",
    "複数のセルの文は一つにつながります。セル内の改行と、「ユーザー」「ボット」の右にある見出しの"
    "ない列が対象です。必要なら列を挿入してください。",
    "",
    "A row with only a bot's text, directly below a pair, goes on with that answer; a row with "
    "only a user's text goes on with what the user says.",
    "ペアのすぐ下で、ボットだけの行はその返事の続き、ユーザーだけの行はその発言の続きになります。",
    "",
    "They are joined with a space; next to a Japanese character without one.",
    "間には空白が入ります。日本語の文字の隣には入りません。",
    "",
    "A column “lines” with “keep” in a row keeps the line breaks of that row's cells.",
    "列「改行」に keep と書いた行では、セル内の改行がそのまま残ります。",
    "",
    "The sheet “join” joins the cells of a row into one with a formula (TEXTJOIN), to see in Excel "
    "what becomes of them. It is not imported.",
    "「join 結合」シートは、1行の複数のセルを数式（TEXTJOIN）で一つにつなぎます。"
    "読み込みはしません。",
    "",
    "A sheet whose name contains “not imported” is left out.",
    "名前に「not imported」を含むシートは読み込みません。",
)


def write_template_workbook(path: Path) -> None:
    """Write the template; only its first sheet is imported.

    Raises:
        DiskFull, StoreError: it could not be written.
    """
    book = Workbook()
    sheet = book.active
    assert isinstance(sheet, Worksheet)  # a new workbook has one
    sheet.title = "conversations"
    _head(sheet, (1, 2, 3, 4, 5, 6))
    _add_validation(sheet)
    example = book.create_sheet("example (not imported)")
    _head(example, (1, 3, 5, 6, 7, 8))
    for row in EXAMPLE:
        example.append([value if value != "" else None for value in row])
    _write_joining(book.create_sheet("join 結合 (not imported)"))
    _write_notes(book.create_sheet("notes 説明 (not imported)"))
    write_atomically(path, to_reproducible_bytes(book))


def _head(sheet: Worksheet, columns: tuple[int, ...]) -> None:
    sheet.freeze_panes = "A2"
    for column, (heading, note), width in zip(columns, HEADINGS, WIDTHS, strict=True):
        cell = sheet.cell(1, column, heading)
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="FFDDEBF7")
        cell.comment = Comment(note, "gpt2-discord-bot", height=110, width=260)
        sheet.column_dimensions[get_column_letter(column)].width = width
    for column in range(1, max(columns)):
        if column not in columns:
            sheet.column_dimensions[get_column_letter(column)].width = 30


def _write_joining(sheet: Worksheet) -> None:
    """Formulas that join the pieces of each row, beside a cell for what stands between them."""
    label, *notes = JOIN_HELP
    sheet["A1"] = label
    sheet["B1"] = " "
    sheet["B1"].fill = PatternFill("solid", fgColor="FFFFF2CC")
    for row, note in enumerate(notes, 2):
        sheet.cell(row, 1, note)
    pieces = {"user": 3, "bot": 3 + PIECES}
    for column, (speaker, first) in enumerate(pieces.items(), 1):
        sheet.cell(JOIN_HEADER_ROW, column, speaker).font = Font(bold=True)
        sheet.column_dimensions[get_column_letter(column)].width = 50
        for n in range(PIECES):
            sheet.cell(JOIN_HEADER_ROW, first + n, f"{speaker} {n + 1}").font = Font(bold=True)
        left, right = get_column_letter(first), get_column_letter(first + PIECES - 1)
        for row in range(JOIN_HEADER_ROW + 1, JOIN_HEADER_ROW + 1 + JOINED_ROWS):
            # in the file, functions newer than the format are written with this prefix
            joined = f"_xlfn.TEXTJOIN({JOINER_CELL},TRUE,{left}{row}:{right}{row})"
            sheet.cell(row, column, f"={joined}")
    sheet.freeze_panes = f"C{JOIN_HEADER_ROW + 1}"


def _add_validation(sheet: Worksheet) -> None:
    turn = DataValidation("whole", operator="between", formula1="1", formula2="9999")
    turn.error = "A whole number from 1.\n1以上の整数を入れてください。"
    turn.add(f"D2:D{LAST_VALIDATED_ROW}")
    source = DataValidation("list", formula1=f'"{SOURCES}"', showErrorMessage=False)
    source.add(f"E2:E{LAST_VALIDATED_ROW}")
    for one in (turn, source):
        one.allow_blank = True
        sheet.add_data_validation(one)


def _write_notes(sheet: Worksheet) -> None:
    sheet.column_dimensions["A"].width = NOTE_WIDTH
    for number, note in enumerate(NOTES, 1):
        sheet.cell(number, 1, note or None).alignment = Alignment(wrap_text=True, vertical="top")
        width = sum(2 if east_asian_width(char) in "WF" else 1 for char in note)
        lines = -(-width // NOTE_WIDTH)  # rows that openpyxl writes don't adapt to wrapped text
        sheet.row_dimensions[number].height = 16 * max(1, lines)

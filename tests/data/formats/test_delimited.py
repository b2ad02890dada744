"""CSV as programs and people write it: delimiters, encodings, quotes, guarded cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.records import Pair
from data.formats.delimited import UNCLOSED_QUOTE
from data.formats.files import read_pairs, write_annotated_copy, write_pairs
from data.formats.import_result import ImportResult, RowError
from data.formats.texts import strip_pair

JAPANESE = (Pair("こんにちは", "元気ですか、今日は"), Pair("はい～①", "ﾃｽﾄ"))


def imported(tmp_path: Path, content: bytes) -> ImportResult:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    return read_pairs(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("heading", [True, False])
def test_encodings_and_delimiters(
    tmp_path: Path, encoding: str, delimiter: str, heading: bool
) -> None:
    rows = [("ユーザー", "ボット")] * heading + [(one.user, one.bot) for one in JAPANESE]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert imported(tmp_path, text.encode(encoding)).pairs == JAPANESE


def test_commas_in_sentences(tmp_path: Path) -> None:
    found = imported(tmp_path, b"Hello, friend;Hi, you\nWell, well;Yes, yes\n")
    assert found.pairs == (Pair("Hello, friend", "Hi, you"), Pair("Well, well", "Yes, yes"))


def test_rows_in_another_encoding_are_told(tmp_path: Path) -> None:
    good = "user,bot\nあ,い\nう,え\nお,か\n".encode()
    found = imported(tmp_path, good + "き,く\n".encode("cp932") + b"q,a\n")
    assert found.pairs == (Pair("あ", "い"), Pair("う", "え"), Pair("お", "か"), Pair("q", "a"))
    reason = "There are characters that cannot be read: save the file as UTF-8."
    assert found.errors == (RowError(5, reason),)


@pytest.mark.parametrize("rest", ["q2,a2\n", "q2,a2\n" * 50_000])
def test_a_quotation_mark_that_is_not_closed(tmp_path: Path, rest: str) -> None:
    found = imported(tmp_path, f'user,bot\nq,a\n"wrong,row\n{rest}'.encode())
    assert found.pairs == (Pair("q", "a"),)
    assert found.errors == (RowError(3, UNCLOSED_QUOTE),)


def test_rows_are_counted_as_a_spreadsheet_counts(tmp_path: Path) -> None:
    found = imported(tmp_path, b'user,bot\n\n"a\nb","c\nd"\nq,\n\nq2,\n')
    assert found.pairs == (Pair("a b q", "c d"),)
    assert [one.row for one in found.errors] == [6]


def test_an_apostrophe_is_taken_off_only_before_a_formula(tmp_path: Path) -> None:
    found = imported(tmp_path, b"'=1+1,'tis\n''-,-5\n")
    assert found.pairs == (Pair("=1+1", "'tis"), Pair("'-", "-5"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["", "\n"])
def test_no_cell_is_a_formula_however_a_spreadsheet_splits(
    tmp_path: Path, delimiter: str, ending: str
) -> None:
    """A spreadsheet that splits at another sign does not see our quotation marks as such."""
    texts = ["hi;=1+1", 'hi; "@a"', "hi\t-1", "hi\n+1;x", 'x";=cmd|1', "=1;=2", "a;'=1", "x;＝1"]
    path = tmp_path / "pairs.csv"
    pairs = [Pair(text + ending, "a") for text in texts] + [Pair("q", text) for text in texts]
    write_pairs(pairs, path)
    assert read_pairs(path).pairs == tuple(map(strip_pair, pairs))
    content = path.read_text(encoding="utf-8-sig")
    for line in content.splitlines():  # as if no quotation mark held lines or cells together
        for cell in line.split(delimiter):
            bare = cell.lstrip(' "')
            assert not bare.startswith(("=", "+", "-", "@", "＝")), line


def test_many_columns_and_many_wrong_rows_stay_small(tmp_path: Path) -> None:
    path, out = tmp_path / "pairs.csv", tmp_path / "marked.csv"
    path.write_text("user,bot" + "," * 40_000 + "\n" + "x\n\n" * 500)
    found = read_pairs(path)
    assert len(found.errors) == 500
    write_annotated_copy(path, found.errors, out)
    assert out.stat().st_size < 200_000
    assert read_pairs(out) == found

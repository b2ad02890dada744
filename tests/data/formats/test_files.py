"""What is written is read again exactly, whatever the texts, and the bytes are stable."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl import load_workbook

from core.errors import DiskFull, ImportRefused, StoreError
from core.records import Pair
from data.formats.files import read_pairs, write_pairs
from data.formats.registry import FORMATS, format_of
from data.formats.texts import MAX_TEXT_CHARS, strip_pair

ENDINGS = [suffix for one in FORMATS for suffix in one.suffixes]
FORMULAS = ["=1+1", "'=1", "''-", "+1", "-1", "@a", "\ta", "＝1", "#N/A"]
LINES = ["a\rb", "a\r\nb", "a\n\nb", "\x85a", "a\x85b", "a\u2028b"]
XML = ["_x000D_", "_x005F_", "_x0041_x0042_", "a\x01b", "\x7f", "\ufeff", "\ufffe", "<a&b>"]
YAML = ["Yes", "1.0", "null", "- a", "a: b", "# a", "&a", "*a", "!a", "%a", "[a", "{a", "`", "? "]
WORDS = ["user", "bot", "problem", "keep", "質問", "<|bot|>", "こんにちは", "😀", "'", '"', ",;"]
NASTY = FORMULAS + LINES + XML + YAML + WORDS
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.lists(st.sampled_from(NASTY), min_size=1, max_size=4).map("".join),
)
said = texts.filter(str.strip)
alone = st.builds(Pair, said, said, source=texts)
turns = st.builds(Pair, said, said, texts.filter(str.strip), st.integers(1, 10**8), source=texts)
pairs = st.lists(st.one_of(alone, turns), max_size=5)


@pytest.fixture(params=ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"pairs{request.param}"


@pytest.mark.parametrize("ending", ENDINGS)
@given(pairs=pairs)
@example(pairs=[Pair(text, text, text, 1, text) for text in NASTY if text.strip()])
@example(pairs=[Pair("q", f"a{n}", "c", n, "s") for n in (1, 2, 3, 7, 8)])
@example(pairs=[Pair("problem\t0", "0", source="|bot")])  # half of a heading, read by tabs
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, ending: str, pairs: list[Pair]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"pairs{ending}"
    assert write_pairs(pairs, path) == len(pairs)
    found = read_pairs(path)
    assert found.pairs == tuple(map(strip_pair, pairs))
    assert found.errors == ()


PAIRS = [
    Pair("=HYPERLINK(1)", "@a\nb", "c", 1, "s"),
    Pair("こんにちは", "-5", "c", 2, "s"),
    Pair(" q ", "a"),
]


def test_the_same_bytes_each_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(PAIRS, path)
    first = path.read_bytes()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_pairs(PAIRS, path)
    assert path.read_bytes() == first
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_reading_would_refuse_is_left_out(path: Path) -> None:
    wrong = [
        Pair(" ", "a"),
        Pair("q", "x" * (MAX_TEXT_CHARS + 1)),
        Pair("q", "\ud800"),
        Pair("\0", "a"),
    ]
    assert write_pairs([*wrong, Pair("q", "\x01" * MAX_TEXT_CHARS)], path) == 1
    assert read_pairs(path).pairs == (Pair("q", "\x01" * MAX_TEXT_CHARS),)


def test_no_pairs(path: Path) -> None:
    assert write_pairs([], path) == 0
    assert (
        read_pairs(path).pairs == () if path.stat().st_size else format_of(path.name).may_be_empty
    )


def test_another_ending(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="save it as"):
        write_pairs([], tmp_path / "pairs.txt")


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not be written"):
        write_pairs(PAIRS, tmp_path / "none" / "pairs.csv")


def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no full device here")
    path.write_text("old")
    path.with_name(f"{path.name}.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        write_pairs(PAIRS, path)
    assert path.read_text() == "old"


def test_a_spreadsheet_sees_texts_and_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "pairs.xlsx"
    write_pairs(PAIRS, path)
    sheet = load_workbook(path)["conversations"]
    assert sheet["A2"].value == "=HYPERLINK(1)"
    assert (sheet["A2"].data_type, sheet["A2"].quotePrefix) == ("s", True)
    assert sheet.freeze_panes == "A2"
    with zipfile.ZipFile(path) as package:
        assert b"<f>" not in package.read("xl/worksheets/sheet1.xml")
    csv = path.with_suffix(".csv")
    write_pairs(PAIRS, csv)
    assert csv.read_bytes().startswith(
        b"\xef\xbb\xbfuser,bot,conversation,turn,source,lines\r\n'=HYPERLINK(1),\"'@a\nb\",c,1,s,keep"
    )


def test_a_corpus_is_one_for_other_readers(tmp_path: Path) -> None:
    path = tmp_path / "pairs.yml"
    write_pairs(PAIRS, path)
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert loaded["categories"] == ["gpt2-discord-bot"]
    assert loaded["conversations"] == [
        ["=HYPERLINK(1)", "@a\nb", "こんにちは", "-5"],
        ["q", "a"],
    ]

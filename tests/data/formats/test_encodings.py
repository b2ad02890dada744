"""Which bytes are which text: Shift_JIS without full-width kana, UTF-16 without a mark, NULs."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from core.errors import ImportRefused
from core.records import Pair
from data.formats.files import read_pairs
from data.formats.import_result import ImportResult


def imported(tmp_path: Path, content: bytes, name: str = "pairs.csv") -> ImportResult:
    path = tmp_path / name
    path.write_bytes(content)
    return read_pairs(path)


@pytest.mark.parametrize(
    "text",
    [
        "質問,回答\r\nﾖﾔｸｼﾀｲ,ﾊｲ､ﾄﾞｳｿﾞ\r\n",
        "質問,回答\r\n開館時間,九時半\r\n",
        "開館時間,九時半\r\n休館日,月曜\r\n",
        "ﾖﾔｸ,ﾊｲ､ﾄﾞｳｿﾞ\r\n",
        "ｺﾝﾆﾁﾊ,ｹﾞﾝｷﾃﾞｽｶ\r\n",
        "ﾄﾞｺ?,ﾐﾅﾄﾃﾞｽ\r\n",
        "ｺｰﾋｰ?,ｱﾙﾖ\r\n",
        "港,ｳﾗﾉﾐﾅﾄ\r\n",
        "ＡＢＣ,？\r\n",
        "営業時間,10時～19時\r\n電話番号,０３－１２３４\r\n",
    ],
)
def test_shift_jis_without_full_width_kana(tmp_path: Path, text: str) -> None:
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("質問")]
    assert imported(tmp_path, text.encode("cp932")).pairs == tuple(Pair(*row) for row in rows)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("質問,回答\nこんにちは,元気です\n", "euc_jp"),
        ("開館時間,九時半\n", "euc_jp"),
        ("你好,你好吗\n我是学生,很好\n", "gbk"),
        ("안녕하세요,반갑습니다\n", "euc_kr"),
        ("où,là-bas\nété,à Noël\n", "latin-1"),
        ("Größe,MÜNCHEN ÄÖÜ\n", "cp1252"),
        ("Привет,Как дела\n", "cp1251"),
        ("ГДЕ ПОРТ,ЗА МЕЛЬНИЦЕЙ\n", "cp1251"),
        ("ЗЕМЛЯ,НАША ПОЛЯНА\n", "cp1251"),
        ("привет,здравствуй\n", "koi8_r"),
        ("начать,дача\n", "koi8_r"),
        ("ΓΕΙΑ ΣΟΥ,ΚΑΛΗΜΕΡΑ\n", "cp1253"),
        ("รัก,มาก\n", "cp874"),
        ("กา,ปลา\nรัฐ,ดี\n", "cp874"),
    ],
)
def test_other_encodings_are_refused(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(ImportRefused, match="neither UTF-8 nor Shift_JIS"):
        imported(tmp_path, text.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize(
    "text", ["user,bot\r\nq,a\r\n", "質問,回答\nこんにちは,元気\n", "こ,い\n", "hello;hi\n"]
)
def test_utf16(tmp_path: Path, encoding: str, mark: bool, text: str) -> None:
    content = ("\ufeff" * mark + text).encode(encoding)
    assert imported(tmp_path, content) == imported(tmp_path, text.encode())


@pytest.mark.parametrize("name", ["pairs.json", "pairs.jsonl", "pairs.yml"])
def test_utf16_of_records(tmp_path: Path, name: str) -> None:
    record = json.dumps({"user": "港は？", "bot": "裏です"}, ensure_ascii=False)
    text = {
        ".json": f"[{record}]",
        ".jsonl": record,
        ".yml": "conversations:\n- - 港は？\n  - 裏です\n",
    }
    content = text[Path(name).suffix].encode("utf-16-le")
    assert imported(tmp_path, content, name).pairs == (Pair("港は？", "裏です"),)


@pytest.mark.parametrize(
    "content",
    [
        b"user,bot\nq\0,a\nq2,a2\n",
        b"user,bot\n\0q,a\nq2,a2\n",
        b"user,bot\nq,a\0\0\0\nq2,a2\n",
        codecs.BOM_UTF16_LE + "user,bot\nq\0,a\nq2,a2\n".encode("utf-16-le"),
    ],
)
def test_nul_never_passes(tmp_path: Path, content: bytes) -> None:
    found = imported(tmp_path, content)
    assert found.pairs == (Pair("q2", "a2"),)
    assert [one.row for one in found.errors] == [2]


def test_half_a_character_at_the_end_of_utf16(tmp_path: Path) -> None:
    content = "user,bot\nq,a\n".encode("utf-16") + b"x"
    assert imported(tmp_path, content).pairs == (Pair("q", "a"),)

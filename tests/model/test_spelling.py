"""What a model can hardly write, by its tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.registry import EMBEDDED_FOLDER
from model.spelling import Script, open_speller
from tests.japanese_folders import make_japanese_folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Friday at eight.", None),
        ("A señor in a café says “naïve” – it’s 5 €…", None),
        ("金曜日の夜です。", Script.JAPANESE),
        ("It is 金曜日.", Script.JAPANESE),
        ("Yes 🎉", None),
        ("Yes ❤️", Script.SIGNS),
        ("Привет", Script.OTHER),
        ("", None),
    ],
)
def test_the_embedded_model_spells_what_is_not_latin_in_bytes(
    text: str, expected: Script | None
) -> None:
    speller = open_speller(str(EMBEDDED_FOLDER))
    assert speller
    assert speller.hard_script(text) is expected


@pytest.mark.parametrize("bytes_too", [False, True])
def test_a_japanese_model_writes_japanese(tmp_path: Path, bytes_too: bool) -> None:
    speller = open_speller(str(make_japanese_folder(tmp_path, bytes_too=bytes_too)))
    assert speller
    assert speller.hard_script("こんにちは、猫が好きです。") is None
    assert speller.hard_script("猫") is None
    assert speller.hard_script("猫🎉") is Script.SIGNS
    assert speller.hard_script("Привет") is Script.OTHER


def test_a_model_without_a_tokenizer_here(tmp_path: Path) -> None:
    assert open_speller(str(tmp_path)) is open_speller("no/where") is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert open_speller(str(tmp_path)) is None

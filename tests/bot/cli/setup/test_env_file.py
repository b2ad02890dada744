"""Values are set in a file, read back exactly, and everything else stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.cli.setup.env_file import quote, set_values, values_in
from bot.settings import SettingsError, load_settings

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=30)


@given(PRINTABLE)
def test_a_value_is_read_back_exactly(value: str) -> None:
    assert values_in(f"GPT2BOT_HOME={quote(value)}\n") == {"GPT2BOT_HOME": value}


@pytest.mark.parametrize(
    "value", ["it's", "a b", "#1", "${HOME}", "$${HOME}", "\\", "\\'", '"', "灯台", "C:\\bot", " "]
)
def test_the_settings_read_it_so(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(set_values("", {"BANNED_WORDS": f"x{value}x"})[0], "utf-8")
    assert load_settings().banned_words == (f"x{value}x",)


def test_other_lines_and_comments_stay() -> None:
    text = (
        "# mine\n\nexport SEED=7 # lucky\nbanned_words='a\nb'\n"
        "discord_token=old # the bot's\n\n  # end\nCACHE_MB = 99"
    )
    made, changes = set_values(text, {"DISCORD_TOKEN": "new", "SEED": "8", "CACHE_MB": "99"})
    assert made == (
        "# mine\n\nexport SEED=8 # lucky\nbanned_words='a\nb'\n"
        "DISCORD_TOKEN=new # the bot's\n\n  # end\nCACHE_MB = 99\n"
    )
    assert [(one.name, one.before) for one in changes] == [
        ("SEED", "export SEED=7 # lucky"),
        ("DISCORD_TOKEN", "discord_token=old # the bot's"),
    ]


def test_ends_of_lines_stay() -> None:
    assert set_values("A=1\r\nB=2", {"A": "3", "C": "4"})[0] == "A=3\r\nB=2\r\nC=4\r\n"


def test_each_of_several_lines_is_set_so_that_no_old_secret_stays() -> None:
    made, _ = set_values("T=one\nT=two\n", {"T": "three"})
    assert made == "T=three\nT=three\n"
    made, [change] = set_values("T=old\nT=new\n", {"T": "new"})
    assert made == "T=new\nT=new\n"
    assert change.before == "T=old"


@pytest.mark.parametrize(
    "line", ["T: old", "T:old", "T old", "T", "export t: old", "T='old", 'T="old', "T='old' er"]
)
def test_a_line_that_cannot_be_read_is_replaced(line: str) -> None:
    made, [change] = set_values(f"# mine\n{line}\nT_2: other\nB=2\n", {"T": "new"})
    assert made.replace("export ", "") == "# mine\nT=new\nT_2: other\nB=2\n"
    assert change.before == line


@pytest.mark.parametrize("text", ["T='old\nB='2'\n", "T='old\nB='\n", "N='open\nT=old\nB='2'\n"])
def test_a_quotation_mark_that_takes_other_lines_along_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="quotation mark only: correct it"):
        set_values(text, {"T": "new"})


@pytest.mark.parametrize("line", ["C=${H}/c", "C='${:-$}{H}'"])
def test_a_value_that_refers_to_others_stays_if_it_is_the_wanted_one(line: str) -> None:
    text = f"H=/a\n{line}\n"
    assert set_values(text, {"C": values_in(text)["C"]}) == (text, [])


def test_a_value_that_others_refer_to_may_change() -> None:
    made, _ = set_values("H=/a\nC=${H}/c\n", {"H": "/b"})
    assert values_in(made) == {"H": "/b", "C": "/b/c"}


def test_a_file_that_would_swallow_a_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="quotation mark only: correct it"):
        set_values("NOTE='it is open\n", {"GPT2BOT_HOME": "/my bot"})

"""What operators read in a Japanese terminal: errors of the settings, backups, the demo."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.cli import main as cli
from bot.cli.backup import backup, restore
from bot.cli.demo import WELCOME, _startup_text
from bot.discord_ui.split import MAX_MESSAGE_CHARS
from bot.ops.recovery import single_instance_lock
from bot.settings import Settings, SettingsError, load_settings, prepare_home
from core.utf16 import utf16_length
from i18n.catalogue import JAPANESE
from i18n.reader import say, use_language
from tests.bot.cli.test_backup import database as database  # a fixture
from tests.bot.japanese.discord import assert_japanese

NAMES = re.findall(r"\w+", "Where do you live? In a lighthouse. Viewing as")
"""What is English in the welcome of the demo."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Japanese operator in an empty folder, with none of this machine's settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    with use_language(JAPANESE):
        yield


def told(caught: pytest.ExceptionInfo[Exception]) -> str:
    return say(caught.value.args[0])


@pytest.mark.parametrize(
    "setting",
    [
        *(
            "CONTEXT_MESSAGES=many",
            "TEMPERATURE=hot",
            "TOP_K=-1",
            "TOP_P=0",
            "REPLY_BUTTONS=perhaps",
        ),
        *("LOG_LEVEL=LOUD", "MODELS=mine", "MODELS=a=b,a=c", "OPERATOR_IDS=ada"),
        *("ACCELERATE_CONFIG=there.yaml", "GPT2BOT_HOME=~nobody-has-this-name/bot"),
    ],
)
def test_a_wrong_setting(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, value = setting.split("=", 1)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert told(caught).startswith(f"{name} が")
    assert_japanese(
        told(caught).replace(str(Path.cwd()), ""),
        *re.findall(r"\w+", value),
        "true",
        "false",
        "name",
        "path",
    )


def test_the_bounds_of_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXT_MESSAGES", "many")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert told(caught).endswith("1から50までの整数にしてください。")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError) as caught:
        prepare_home(load_settings(gpt2bot_home=tmp_path / "file"))
    assert told(caught).startswith(f"GPT2BOT_HOME は {tmp_path / 'file'} ですが、")
    Path(".env").write_bytes(b"SEED=\xff\xfe")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert told(caught).startswith("ファイル .env をUTF-8のテキストとして読めません（")


def test_one_bot_at_a_time() -> None:
    settings = load_settings()
    with single_instance_lock(settings):
        with pytest.raises(SettingsError) as caught, single_instance_lock(settings):
            pass
        assert_japanese(told(caught).replace(str(settings.gpt2bot_home), ""))
        with pytest.raises(SettingsError) as caught:
            restore(Path("copy.sqlite3"))
        assert_japanese(told(caught).replace(str(settings.gpt2bot_home), ""))


def test_a_backup_and_back(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        backup(keep=1)
    backup(Path("copy.sqlite3"))
    restore(Path("copy.sqlite3"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    for line in lines:
        assert_japanese(re.sub(r"[/\w.-]+\.sqlite3[\w.-]*", "", line, flags=re.ASCII))
    with pytest.raises(SettingsError) as caught:
        backup(Path("copy.sqlite3"))
    assert_japanese(told(caught))


def test_nothing_to_answer() -> None:
    with pytest.raises(SettingsError) as caught:
        cli.chat(" ")
    assert_japanese(told(caught))


def test_the_demo_says_the_same_in_japanese() -> None:
    welcome = WELCOME.translate_to(JAPANESE)
    for line in filter(None, welcome.splitlines()):
        assert_japanese(line, *NAMES)
    commands = [set(re.findall(r"`(/[a-z ]+)`", text)) for text in (WELCOME, welcome)]
    assert commands[0] == commands[1], "the page of the demo knows their English names"
    assert utf16_length(welcome) <= MAX_MESSAGE_CHARS
    for home in (None, Path("/here")):
        for line in _startup_text("http://here", home).splitlines():
            assert_japanese(line, "here", "home", "Ctrl")

"""What operators read in a Japanese terminal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from bot.app import build_bot
from bot.cli import main as cli
from bot.cli.backup import backup, restore
from bot.cli.demo import WELCOME, _startup_text
from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS
from bot.ops.probe import query_health
from bot.ops.recovery import single_instance_lock
from bot.settings import Settings, SettingsError, load_settings, operator_language, prepare_home
from core.texts import utf16_length
from data.storage.storage import open_storage
from i18n.reader import say, use_language
from model.registry import EMBEDDED_FOLDER_JA
from tests.bot.cli.command import Command
from tests.bot.cli.doctor.test_command import NAMES, doctor, spoil
from tests.bot.cli.test_backup import database as database  # a fixture
from tests.bot.discord_api import Api, serve
from tests.bot.discord_ui.cogs.test_models import make_folder
from tests.bot.japanese.discord import JAPANESE, assert_japanese, english_in
from tests.bot.ops.test_http import get
from tests.builds import put_built, put_built_tiny
from tests.fakes import FakeWorker

JAPAN = {"LC_ALL": "ja_JP.UTF-8"}


SYSTEM = re.findall(r"\w+", "Not a directory: can decode utf byte xff codec position invalid start")
"""What Python says of a file."""


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with none of this machine's settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- which language ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "utf-8"])
def test_a_terminal_without_the_letters_is_spoken_to_in_english(
    gpt2bot: Command, encoding: str
) -> None:
    (gpt2bot.folder / "日本.csv").write_text("user,bot\nこんにちは,はい\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "bot", "dataset", "check", "日本.csv"],
        cwd=gpt2bot.folder,
        env={**gpt2bot.environment, "BOT_LANGUAGE": "ja", "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode(encoding)
    letters = encoding in ("cp932", "utf-8")
    assert ("すべての行" if letters else "Every row is valid.") in said


def test_the_language_is_known_even_if_the_settings_are_wrong(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = place / ".env"
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    assert operator_language() == "ja"
    for text, language in ((b"BOT_LANGUAGE=en\nCACHE_MB=none\n", "en"), (b"\xff\xfe\x00", "ja")):
        env.write_bytes(text)
        assert operator_language() == language
    env.unlink()
    monkeypatch.setenv("BOT_LANGUAGE", "fr")
    assert operator_language() == "ja"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert operator_language() == "en"


def test_a_language_that_the_bot_does_not_speak(gpt2bot: Command) -> None:
    english, japanese = (
        gpt2bot("chat", "hello", BOT_LANGUAGE="fr", **env) for env in (dict[str, str](), JAPAN)
    )
    assert english.returncode == japanese.returncode == 2
    assert english.stderr == "BOT_LANGUAGE is “fr”, but it must be one of en, ja.\n"
    assert_japanese(japanese.stderr.replace("en, ja", ""))


# --- errors --------------------------------------------------------------------------------------


def refusal(call: Callable[[], object]) -> str:
    """Why the call is refused, in Japanese, without paths."""
    with pytest.raises(SettingsError) as refused, use_language("ja"):
        call()
    with use_language("ja"):
        return re.sub(r"/\S*", "", say(refused.value.args[0]))


@pytest.mark.parametrize(
    ("setting", "end"),
    [
        ("CONTEXT_MESSAGES=many", "1から50までの整数にしてください。"),
        *((one, "。") for one in ("TEMPERATURE=hot", "TOP_K=-1", "TOP_P=0", "OPERATOR_IDS=ada")),
        *((one, "。") for one in ("REPLY_BUTTONS=perhaps", "LOG_LEVEL=LOUD", "MODELS=a=b,a=c")),
        *(("MODELS=mine", ""), ("ACCELERATE_CONFIG=there.yaml", "")),
        ("GPT2BOT_HOME=~nobody-has-this-name/bot", "。"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_wrong_setting(setting: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, value = setting.split("=", 1)
    monkeypatch.setenv(name, value)
    told = refusal(load_settings)
    assert told.startswith(f"{name} が")
    assert told.endswith(end)
    assert_japanese(told, *re.findall(r"\w+", value), "true", "false", "name", "path")


def test_what_is_refused(place: Path, database: Path) -> None:
    settings = load_settings()
    (place / "file").write_text("mine")
    (place / "copy.sqlite3").write_text("mine")
    home = load_settings(gpt2bot_home=place / "file")
    told = [refusal(lambda: prepare_home(home)), refusal(lambda: cli.chat(" "))]
    told.append(refusal(lambda: backup(place / "copy.sqlite3")))
    with ExitStack() as lock:
        lock.enter_context(single_instance_lock(settings))
        told.append(refusal(lambda: lock.enter_context(single_instance_lock(settings))))
        told.append(refusal(lambda: restore(Path("copy.sqlite3"))))
    (place / ".env").write_bytes(b"SEED=\xff\xfe")
    told.append(refusal(load_settings))
    for text in told:
        assert_japanese(text, "env", *SYSTEM)


# --- what commands print -------------------------------------------------------------------------


def test_a_backup_and_back(place: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with use_language("ja"):
        for _ in range(2):
            backup(keep=1)
        backup(place / "copy.sqlite3")
        restore(place / "copy.sqlite3")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    for line in lines:
        assert_japanese(re.sub(r"[/\w.-]+\.sqlite3[\w.-]*", "", line, flags=re.ASCII))


def test_the_demo_says_the_same_in_japanese() -> None:
    welcome = WELCOME.translate_to("ja")
    commands = [set(re.findall(r"`(/[a-z ]+)`", text)) for text in (WELCOME, welcome)]
    assert commands[0] == commands[1], "the page of the demo knows their English names"
    assert utf16_length(welcome) <= MAX_MESSAGE_CHARS
    with use_language("ja"):
        for home in (None, Path("/here")):
            for line in _startup_text("http://here", home).splitlines():
                assert_japanese(line, "here", "home", "Ctrl")


def test_a_conversation(gpt2bot: Command) -> None:
    (gpt2bot.folder / ".env").write_text("BOT_LANGUAGE=ja\n")
    put_built_tiny(gpt2bot.folder / "var")
    put_built(EMBEDDED_FOLDER_JA, gpt2bot.folder / "var")  # it stands by
    done = gpt2bot("chat", "--model", "tiny", said="hello\n/reset\n/quit\n")
    assert done.returncode == 0
    first, *others = done.stderr.splitlines()
    assert_japanese(first, "reset", "quit", "exit", "Ctrl")
    assert others == ["あなた> あなた> 忘れました。", "あなた> "]
    done = gpt2bot("chat", "--model", "gpt5", "hello", **JAPAN)
    assert done.returncode == 2
    assert_japanese(done.stderr, "gpt5", "gpt2-medium")


async def ill(gpt2bot: Command, *arguments: str, **env: str) -> str:
    """What the doctor says where much is wrong."""
    env |= JAPAN | {"MODELS": f"mine={gpt2bot.folder}", "MEMORY_MB": "999999999", "TOP_P": "7"}
    guilds = [(f"港 {n}", 0) for n in range(8)]
    async with serve(Api(guilds=guilds, flags=0)) as there:
        return (await doctor(gpt2bot, there.url, *arguments, **env)).stdout


async def test_the_doctor_speaks_japanese_to_people_and_english_to_programs(
    gpt2bot: Command,
) -> None:
    home = gpt2bot.folder / "var"
    home.mkdir()
    async with open_storage(home / "gpt2bot.sqlite3") as storage:
        await storage.channels.set_enabled(1, 1, True)
    os.truncate(home / "gpt2bot.sqlite3", 9000)
    put_built(EMBEDDED_FOLDER_JA, home)
    spoil(make_folder(home / "checkpoints" / "1" / "tiny-1"))
    told = re.sub(r"(https:)?/\S+", "", await ill(gpt2bot, COLUMNS="300"))  # without paths
    assert english_in(told, "safetensors", "mine", "Bot", "Intent", "env", "int", "cpu") == []
    assert told.splitlines()[-1].startswith(
        "15件の確認のうち7件に問題がありました：設定、インテント"
    )
    found = json.loads(await ill(gpt2bot, "--json"))
    assert [one["name"] for one in found["checks"]] == NAMES
    words = [one[key] for one in found["checks"] for key in ("detail", "advice")]
    assert not JAPANESE.search("".join(words).replace("港", ""))


async def test_health(settings: Settings, worker: FakeWorker, unused_tcp_port: int) -> None:
    port = unused_tcp_port
    with use_language("ja"):
        async with build_bot(settings.model_copy(update={"health_port": port}), worker=worker):
            running, told = await asyncio.to_thread(query_health, port)
            _, for_programs = await get(port, "/healthz")
        stopped, silence = await asyncio.to_thread(query_health, port)
    assert not running
    assert not stopped
    assert told.startswith("ゲートウェイ: ボットはDiscordに接続していません。")
    for line in (*told.splitlines(), silence):
        assert_japanese(line, "Errno", "Connection", "refused")
    assert json.loads(for_programs)["gateway"]["reason"] == "The bot is not connected to Discord."

"""The terminal in Japanese: the doctor, a conversation, health, and what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bot.app import build_bot
from bot.ops.probe import query_health
from bot.settings import Settings, operator_language
from data.storage.storage import open_storage
from i18n.reader import use_language
from tests.bot.cli.doctor.test_command import NAMES, doctor, spoil
from tests.bot.cli.test_main import Command
from tests.bot.discord_api import Api, serve
from tests.bot.discord_ui.cogs.test_models import make_folder
from tests.bot.japanese.discord import JAPANESE, assert_japanese, english_in
from tests.bot.ops.test_http import get
from tests.fakes import FakeWorker

JAPAN = {"LC_ALL": "ja_JP.UTF-8"}


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


# --- which language ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("ascii", "Every row is valid."),
        ("cp1252", "Every row is valid."),
        ("cp932", "すべての行が正しく書かれています。"),
        ("utf-8", "すべての行が正しく書かれています。"),
    ],
)
def test_a_terminal_without_the_letters_is_spoken_to_in_english(
    gpt2bot: Command, encoding: str, said: str
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
    assert said in done.stdout.decode(encoding)


def test_the_language_is_known_even_if_the_settings_are_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    assert operator_language() == "ja"
    (tmp_path / ".env").write_text("BOT_LANGUAGE=en\nCACHE_MB=none\n")
    assert operator_language() == "en"
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert operator_language() == "ja"
    monkeypatch.setenv("BOT_LANGUAGE", "fr")
    (tmp_path / ".env").unlink()
    assert operator_language() == "ja"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert operator_language() == "en"


def test_a_language_that_the_bot_does_not_speak(gpt2bot: Command) -> None:
    done = gpt2bot("chat", "hello", BOT_LANGUAGE="fr")
    assert done.returncode == 2
    assert done.stderr == "BOT_LANGUAGE is “fr”, but it must be one of en, ja.\n"
    done = gpt2bot("chat", "hello", BOT_LANGUAGE="fr", **JAPAN)
    assert done.returncode == 2
    assert_japanese(done.stderr.replace("en, ja", ""))


# --- talking -------------------------------------------------------------------------------------


def test_a_conversation(gpt2bot: Command) -> None:
    (gpt2bot.folder / ".env").write_text("BOT_LANGUAGE=ja\n")
    done = gpt2bot("chat", "--model", "tiny", said="hello\n/reset\n/quit\n")
    assert done.returncode == 0
    first, *others = done.stderr.splitlines()
    assert_japanese(first, "reset", "quit", "Ctrl")
    assert others == ["あなた> あなた> 忘れました。", "あなた> "]
    done = gpt2bot("chat", "--model", "gpt5", "hello", **JAPAN)
    assert done.returncode == 2
    assert_japanese(done.stderr, "gpt5", "gpt2-medium")


# --- the doctor ----------------------------------------------------------------------------------


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
    spoil(make_folder(home / "checkpoints" / "1" / "tiny-1"))
    told = re.sub(r"(https:)?/\S+", "", await ill(gpt2bot, COLUMNS="300"))  # without paths
    assert english_in(told, "safetensors", "mine", "Bot", "Intent", "env", "int", "cpu") == []
    last = told.splitlines()[-1]
    assert last.startswith(
        "14件のうち7件を見直してください：設定、インテント、権限、データベース、"
    )
    found = json.loads(await ill(gpt2bot, "--json"))
    assert [one["name"] for one in found["checks"]] == NAMES
    words = [one[key] for one in found["checks"] for key in ("detail", "advice")]
    assert not JAPANESE.search("".join(words).replace("港", ""))


# --- health --------------------------------------------------------------------------------------


async def test_health(settings: Settings, worker: FakeWorker, unused_tcp_port: int) -> None:
    port = unused_tcp_port
    async with build_bot(settings.model_copy(update={"health_port": port}), worker=worker):
        with use_language("ja"):
            well, text = await asyncio.to_thread(query_health, port)
        _, for_programs = await get(port, "/healthz")
    assert not well
    assert text.splitlines()[0] == "ゲートウェイ: ボットはDiscordに接続していません。"
    for line in text.splitlines():
        assert_japanese(line)
    assert json.loads(for_programs)["gateway"]["reason"] == "The bot is not connected to Discord."
    with use_language("ja"):
        well, text = await asyncio.to_thread(query_health, port)
    assert not well
    assert_japanese(text, "Errno", "Connection", "refused")

"""The terminal in Japanese: the doctor, a conversation, health, and what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from bot.app import build_bot
from bot.cli.doctor.account import check_account
from bot.cli.doctor.command import findings_table
from bot.cli.doctor.wrapping import wrap_japanese
from bot.ops.checks.machine import check_memory
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
        ("ascii", "Every row is right."),
        ("cp1252", "Every row is right."),
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


def test_an_error(gpt2bot: Command) -> None:
    done = gpt2bot("chat", "--model", "gpt5", "hello", **JAPAN)
    assert done.returncode == 2
    assert_japanese(done.stderr, "gpt5", "gpt2-medium")


# --- the doctor ----------------------------------------------------------------------------------


async def ill(gpt2bot: Command, *arguments: str, **env: str) -> str:
    """What it says where much is wrong."""
    home = gpt2bot.folder / "var"
    async with open_storage(home / "gpt2bot.sqlite3") as storage:
        await storage.channels.set_enabled(1, 1, True)
    os.truncate(home / "gpt2bot.sqlite3", 9000)
    spoil(make_folder(home / "checkpoints" / "1" / "tiny-1"))
    env |= JAPAN | {"MODELS": f"mine={gpt2bot.folder}", "MEMORY_MB": "999999999", "TOP_P": "7"}
    guilds = [(f"港 {n}", 0) for n in range(8)]
    async with serve(Api(guilds=guilds, flags=0)) as there:
        return (await doctor(gpt2bot, there.url, *arguments, **env)).stdout


async def test_all_that_the_doctor_says(gpt2bot: Command) -> None:
    (gpt2bot.folder / "var").mkdir()
    told = re.sub(r"(https:)?/\S+", "", await ill(gpt2bot, COLUMNS="300"))  # without paths
    assert english_in(told, "safetensors", "mine", "Bot", "Intent", "env", "int", "cpu") == []
    last = told.splitlines()[-1]
    assert last.startswith(
        "14件のうち7件を見直してください：設定、インテント、権限、データベース、"
    )


async def test_the_columns_are_even(settings: Settings) -> None:
    with use_language("ja"):
        console = Console(file=StringIO(), width=70)
        with console.capture() as captured:
            console.print(
                findings_table([*check_memory(settings), *await check_account(None)], console.width)
            )
    begin = len("ok  ") + cell_len("インテント") + 2
    lines = captured.get().splitlines()
    assert len(lines) > 7  # some of it takes more than a line
    for line in lines:
        assert cell_len(line) <= console.width
        name = set_cell_size(line, begin)
        assert line.startswith(name), line
        assert name.endswith("  "), line
        assert not line.removeprefix(name).startswith(" "), line


async def test_programs_read_english(gpt2bot: Command) -> None:
    (gpt2bot.folder / "var").mkdir()
    found = json.loads(await ill(gpt2bot, "--json"))
    assert [one["name"] for one in found["checks"]] == NAMES
    words = [one[key] for one in found["checks"] for key in ("detail", "advice")]
    assert not JAPANESE.search("".join(words).replace("港", ""))


async def test_a_token_that_is_refused(gpt2bot: Command) -> None:
    async with serve(Api()) as there:
        done = await doctor(gpt2bot, there.url, DISCORD_TOKEN="wrong", **JAPAN)
    lines = [line for line in done.stdout.splitlines() if "トークン" in line]
    assert_japanese(lines[0], "ok")
    assert lines[0].split("  ")[0] == "!!"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("All of it in Latin letters is left to Rich.", 10, 1),
        ("短い", 10, 1),
        ("三文字。", 6, 2),
        ("（括弧）で始まる", 8, 2),
        ("長い名前 https://example.com/a/b が入る文", 12, 3),
    ],
)
def test_where_a_line_ends(text: str, width: int, lines: int) -> None:
    found = wrap_japanese(text, width).split("\n")
    assert len(found) == lines
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert not any(line.startswith(tuple("、。）")) for line in found)
    assert not any(line.endswith("（") for line in found)


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

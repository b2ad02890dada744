"""`gpt2bot setup` as people run it, at a terminal and in a script, beside a real Discord server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from discord.http import Route

from bot.cli.doctor.account import PORTAL
from bot.cli.setup import discord_token
from bot.discord_ui.bot_permissions import INVITE_PERMISSIONS
from bot.settings import load_settings
from tests.bot.cli.command import Command
from tests.bot.cli.doctor.test_command import AT
from tests.bot.discord_api import APPLICATION, TOKEN, Api, serve
from tests.builds import put_built_tiny

NOWHERE = "http://127.0.0.1:9"
CTRL_C, CTRL_D = "\x03", "\x04"
HIDDEN = r".*it is not shown\): "
"""The end of the question for the token: what is typed before it is thrown away."""
LIGHTHOUSE = ("The Lighthouse", INVITE_PERMISSIONS.value)
LINK = f"https://discord.com/oauth2/authorize?client_id={APPLICATION}"
needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal to be driven")


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


async def in_script(
    gpt2bot: Command, url: str, *flags: str, **env: str
) -> subprocess.CompletedProcess[str]:
    env = {"DISCORD_AT": url} | env
    return await asyncio.to_thread(gpt2bot, "setup", *flags, code=AT, **env)


def at_terminal(
    gpt2bot: Command,
    answers: Sequence[tuple[str, str | Callable[[], None]]],
    *typed: str,
    **env: str,
) -> tuple[int, str]:
    """Type each answer, or do what it is, once its question is shown, a pattern; the exit status,
    and all that was shown."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal:  # open until the command has opened it for itself
        path = os.ttyname(theirs)
        command = gpt2bot.at_terminal(path, *(typed or ("setup",)), code=AT, TERM="dumb", **env)
        try:
            shown, seen = "", 0
            for question, answer in answers:
                while not (found := re.compile(question, re.DOTALL).search(shown, seen)):
                    shown += read(ours, shown)
                seen = found.end()
                if callable(answer):
                    answer()
                elif answer == CTRL_C:
                    assert command.pid is not None
                    os.kill(command.pid, signal.SIGINT)
                    os.write(ours, b"\n")  # just before input() reads, it is seen after a line only
                else:
                    os.write(ours, (answer if answer == CTRL_D else f"{answer}\n").encode())
            terminal.close()
            with contextlib.suppress(OSError):  # it has ended
                while more := read(ours, shown):
                    shown += more
            command.join(60)
            assert command.exitcode is not None
            return command.exitcode, shown
        finally:
            command.kill()
            os.close(ours)


def read(terminal: int, shown: str) -> str:
    assert select.select([terminal], [], [], 60)[0], f"nothing more comes after: {shown}"
    return os.read(terminal, 10_000).decode(errors="replace").replace("\r\n", "\n")


def settings_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.chdir(folder)
    settings = load_settings()
    assert settings.discord_token is not None
    return {
        "token": settings.discord_token.get_secret_value(),
        "language": settings.bot_language,
        "model": settings.default_model,
        "home": settings.gpt2bot_home,
    }


def names_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


# --- at a terminal -------------------------------------------------------------------------------


@needs_terminal
async def test_a_newcomer(
    gpt2bot: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a browser, from nothing to a bot that starts."""
    (tmp_path / "file").touch()
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$1" >> pages\n')
    browser.chmod(0o755)
    api = Api(flags=0)
    answers = [
        ("Language of the bot", "de"),
        ("one of en, ja, auto.\nLanguage of the bot", ""),
        (f"At {PORTAL} press New Application.*Open that page in your browser", ""),
        (f"Bot token{HIDDEN}", "wrong.token.here"),
        (f"Discord does not accept this token: press Reset Token{HIDDEN}", ""),
        (f"There is no token yet{HIDDEN}", "to ken"),
        (f"This is no token{HIDDEN}", f'"Bot {TOKEN}" '),
        ("ok  token  It belongs to gpt2bot", "gpt5"),
        ("no model called “gpt5”", "1"),
        ("Folder for all data", "file"),
        ("choose another folder", "my home's"),
        ("Write this to", "y"),
        ("Message Content Intent is off.*Switch it on at Discord", ""),
        ("Message Content Intent is on.\n.*Open that page in your browser", ""),
        ("I notice when the bot is there", lambda: api.guilds.append(LIGHTHOUSE)),
        ("The bot is in The Lighthouse.\n.*Start it now", ""),
    ]
    async with serve(api):
        desktop = {"DISPLAY": ":0", "BROWSER": str(browser)}
        status, shown = await asyncio.to_thread(
            at_terminal, gpt2bot, answers, DISCORD_AT=api.url, **desktop
        )
    assert "token.here" not in shown
    assert "gpt2: fluent English; knows a little, makes up the rest (0.3 GB of memory" in shown
    assert "It asks for these permissions: View Channels, Send Messages, " in shown
    for name in ("token", "intents", "permissions", "worker"):
        assert re.search(rf"^ok  {name} ", shown, re.MULTILINE)
    assert status == 2
    assert "Discord does not let me start: 404" in shown, "this Discord knows logins only"
    portal, invitation = (tmp_path / "pages").read_text().splitlines()
    assert portal == PORTAL
    assert invitation.startswith(f"{LINK}&scope=")
    assert f"permissions={INVITE_PERMISSIONS.value}" in invitation
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert settings_in(tmp_path, monkeypatch) == {
        "token": TOKEN,
        "language": "en",
        "model": "tiny",
        "home": tmp_path / "my home's",
    }


@needs_terminal
async def test_run_without_a_token_offers_it_in_japanese(gpt2bot: Command, tmp_path: Path) -> None:
    answers = [
        ("`gpt2bot setup` を始めますか", "はい"),
        ("ボットの言語", ""),
        ("ボットのトークン.*入力は表示されません）： ", TOKEN),
        ("サーバーが選ぶまで", ""),
        ("すべてのデータ", ""),
        ("書き込みますか", "いいえ"),
    ]
    async with serve(Api()) as api:
        status, shown = await asyncio.to_thread(
            at_terminal, gpt2bot, answers, "run", DISCORD_AT=api.url, LANG="ja_JP.UTF-8"
        )
    assert status == 2
    assert "何も書き込みませんでした。" in shown
    assert "DISCORD_TOKEN が設定されていません" in shown
    assert names_in(tmp_path) == []


QUESTIONS = [
    ("Language of the bot", ""),
    (f"Bot token{HIDDEN}", TOKEN),
    ("Model to use until", ""),
    ("Folder for all data", "elsewhere"),
    ("Write this to", ""),
]


@needs_terminal
async def test_run_without_a_token_sets_up_and_starts(gpt2bot: Command, tmp_path: Path) -> None:
    put_built_tiny(tmp_path / "elsewhere")
    answers = [("Start `gpt2bot setup` now", ""), *QUESTIONS]
    async with serve(Api(guilds=[LIGHTHOUSE])) as api:
        status, shown = await asyncio.to_thread(
            at_terminal, gpt2bot, answers, "run", DISCORD_AT=api.url
        )
    assert (tmp_path / ".env").is_file()
    assert "Start it now" not in shown, "that was what they typed"
    assert status == 2
    assert "Discord does not let me start: 404" in shown, "this Discord knows logins only"


@needs_terminal
@pytest.mark.parametrize("answered", range(len(QUESTIONS)))
def test_ctrl_c_leaves_everything_as_it_was(
    gpt2bot: Command, tmp_path: Path, answered: int
) -> None:
    (tmp_path / ".env").write_text("SEED=7\n")
    answers = [*QUESTIONS[:answered], (QUESTIONS[answered][0], CTRL_C)]
    status, shown = at_terminal(gpt2bot, answers, DISCORD_AT=NOWHERE)
    assert status == 130
    assert "Traceback" not in shown
    assert names_in(tmp_path) == [".env"]
    assert (tmp_path / ".env").read_text() == "SEED=7\n"


@needs_terminal
def test_an_input_that_ends_leaves_everything_as_it_was(gpt2bot: Command, tmp_path: Path) -> None:
    status, shown = at_terminal(
        gpt2bot, [QUESTIONS[0], (f"Bot token{HIDDEN}", CTRL_D)], DISCORD_AT=NOWHERE
    )
    assert status == 2
    assert shown.endswith(
        "The input ended before every question was answered; nothing was written.\n"
    )
    assert names_in(tmp_path) == []


@needs_terminal
async def test_an_input_that_ends_after_writing_is_no(gpt2bot: Command, tmp_path: Path) -> None:
    """It does not start the bot, and nothing is changed at Discord."""
    put_built_tiny(tmp_path / "elsewhere")
    answers = [
        *QUESTIONS,
        ("Switch it on at Discord", CTRL_D),
        ("No browser could be opened.*Enter goes on without it", CTRL_D),
        ("It is in no server yet.*Start it now", CTRL_D),
    ]
    async with serve(Api(flags=0)) as api:
        status, shown = await asyncio.to_thread(
            at_terminal, gpt2bot, answers, "setup", "--browser", DISCORD_AT=api.url, DISPLAY=":0"
        )
    assert status == 0
    assert api.edits == []
    assert "ok  worker" in shown
    assert "nothing was written" not in shown
    assert f"DISCORD_TOKEN={TOKEN}\n" in (tmp_path / ".env").read_text()


@needs_terminal
async def test_ctrl_c_ends_only_the_waiting_and_flags_answer(gpt2bot: Command) -> None:
    put_built_tiny(gpt2bot.folder / "elsewhere")
    flags = ("--no-message-content", "--no-browser", "--no-start")
    answers = [*QUESTIONS, ("Enter goes on without it", CTRL_C)]
    async with serve(Api(flags=0)) as api:
        status, shown = await asyncio.to_thread(
            at_terminal, gpt2bot, answers, "setup", *flags, DISCORD_AT=api.url, DISPLAY=":0"
        )
    assert status == 0
    assert "It is in no server yet. The link stays valid." in shown
    assert "!!  intents" in shown
    assert shown.endswith("Start the bot with `gpt2bot run`.\n")


async def test_a_discord_that_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discord_token, "LOGIN_TIMEOUT_S", 0.1)
    async with serve(Api(answers=asyncio.Event())) as api:
        monkeypatch.setattr(Route, "BASE", api.url)
        finding, application = await discord_token._ask_discord(TOKEN)
        api.answers.set()
    assert finding.detail == "Discord did not answer. The token is written without a check."
    assert application is None


# --- in a script ---------------------------------------------------------------------------------


async def test_changed_lines_are_shown_and_the_others_stay(
    gpt2bot: Command, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("# mine\nDISCORD_TOKEN=the.old.one\nDEFAULT_MODEL=gpt2\n")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    put_built_tiny(tmp_path / "data")
    flags = ("--yes", "--token-file", "token", "--model", "tiny", "--language", "auto")
    async with serve(Api(flags=0)) as api:
        done = await in_script(gpt2bot, api.url, *flags, "--home", "data")
    assert (done.returncode, done.stderr) == (0, "")
    assert api.edits == [], "a script that does not ask for it changes nothing at Discord"
    assert done.stdout.endswith("Start the bot with `gpt2bot run`.\n")
    assert "  - DEFAULT_MODEL=gpt2\n  + DEFAULT_MODEL=tiny\n" in done.stdout
    assert "  - DISCORD_TOKEN=********\n" in done.stdout
    assert "the.old.one" not in done.stdout
    assert TOKEN not in done.stdout
    assert (tmp_path / ".env").read_text() == (
        f"# mine\nDISCORD_TOKEN={TOKEN}\nDEFAULT_MODEL=tiny\nBOT_LANGUAGE=\nGPT2BOT_HOME=data\n"
    )
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    again = await in_script(gpt2bot, NOWHERE, "--yes")
    assert again.returncode == 0
    assert "The token is written without a check." in " ".join(again.stdout.split())
    assert "  + " not in again.stdout


async def test_a_file_that_notepad_wrote_in_utf_16_keeps_its_lines(
    gpt2bot: Command, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("# 灯台\nSEED=7\n", encoding="utf-16", newline="\r\n")
    put_built_tiny(tmp_path / "var")
    done = await in_script(gpt2bot, NOWHERE, "--yes", "--model", "tiny", DISCORD_TOKEN=TOKEN)
    assert done.returncode == 0
    assert (tmp_path / ".env").read_bytes().startswith("# 灯台\r\nSEED=7\r\nDISC".encode())


@pytest.mark.parametrize(
    ("flags", "token", "told"),
    [
        ((), TOKEN, "There is no terminal to ask at: give --yes"),
        (("--yes",), "", "There is no token yet"),
        (("--yes",), "wrong.token.here", "Discord does not accept this token"),
        (("--yes",), "two words", "This is no token"),
        (("--yes", "--token-file", "none"), "", "The file none cannot be read"),
        (("--yes", "--model", "gpt5"), TOKEN, "no model called “gpt5”"),
        (("--yes", "--home", "file/below"), TOKEN, "Nothing can be written to file/below"),
        (("--yes", "--home", "data/mine"), TOKEN, "data/mine is part of the program"),
    ],
)
async def test_bad_answers(
    gpt2bot: Command, tmp_path: Path, flags: Sequence[str], token: str, told: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").touch()
    async with serve(Api()) as api:
        done = await in_script(gpt2bot, api.url, *flags, DISCORD_TOKEN=token)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(names_in(tmp_path)) == ["data", "file"]
    assert names_in(tmp_path / "data") == ["__init__.py"]


FAILING = """
import os, pathlib
def fail(*_): raise OSError({number}, os.strerror({number}))
pathlib.Path.write_bytes = fail
"""


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (errno.ENOSPC, 75, "The disk is full, so this could not be saved: free some space"),
        (errno.EACCES, 2, ".env could not be written: Permission denied. Run `gpt2bot setup` in"),
    ],
)
def test_a_file_that_cannot_be_written_is_as_it_was(
    gpt2bot: Command, tmp_path: Path, number: int, status: int, told: str
) -> None:
    (tmp_path / ".env").write_text("SEED=7\n")
    code = FAILING.format(number=number) + AT
    done = gpt2bot("setup", "--yes", code=code, DISCORD_AT=NOWHERE, DISCORD_TOKEN=TOKEN)
    assert done.returncode == status
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1
    assert names_in(tmp_path) == [".env"]
    assert (tmp_path / ".env").read_text() == "SEED=7\n"

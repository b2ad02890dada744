"""The command as people run it: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from bot.cli.chat import HELP, TerminalChat, _StdinReader
from bot.settings import Settings
from model.registry import model_options
from tests.bot.cli.command import Command
from tests.builds import put_built_tiny
from tests.fakes import FakeWorker


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def talking(gpt2bot: Command) -> Command:
    """Where `tiny` has answered before, so it need not be built."""
    put_built_tiny(gpt2bot.folder / "var")
    return gpt2bot


def assert_one_sentence(done: subprocess.CompletedProcess[str], expected: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_help_names_the_commands(gpt2bot: Command) -> None:
    done = gpt2bot("--help")
    assert done.returncode == 0
    assert all(
        name in done.stdout
        for name in (
            "setup ",
            "run ",
            "demo ",
            "chat ",
            "train ",
            "dataset ",
            "doctor ",
            "--version",
        )
    )


@pytest.mark.parametrize("command", ["setup", "run", "demo", "chat", "train", "doctor"])
def test_each_command_has_help(gpt2bot: Command, command: str) -> None:
    done = gpt2bot(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{command} [OPTIONS]" in done.stdout


def test_version(gpt2bot: Command) -> None:
    assert gpt2bot("--version").stdout == f"gpt2bot {version('gpt2-discord-bot')}\n"


@pytest.mark.parametrize("token", ["", "  "])
def test_run_without_a_token_says_how_to_get_one(gpt2bot: Command, token: str) -> None:
    done = gpt2bot("run", DISCORD_TOKEN=token)
    assert_one_sentence(done, "DISCORD_TOKEN is not set: copy your bot's token from")
    assert "https://discord.com/developers/applications" in done.stderr
    assert ".env" in done.stderr


@pytest.mark.parametrize("command", [("run",), ("chat",), ("train", "--dataset", "chitchat")])
def test_a_wrong_setting(gpt2bot: Command, command: Sequence[str]) -> None:
    done = gpt2bot(*command, CONTEXT_MESSAGES="all")
    assert_one_sentence(done, "CONTEXT_MESSAGES is “all”, but it must be a whole number")


def test_an_unknown_default_model(gpt2bot: Command) -> None:
    assert_one_sentence(gpt2bot("run", DEFAULT_MODEL="gpt5"), "no model called “gpt5”")


@pytest.mark.parametrize(
    "command",
    [("run",), ("chat", "--model", "tiny", "hi"), ("chat",), ("demo", "--home", "home")],
    ids=" ".join,
)
@pytest.mark.parametrize("blocked", ["home", "home/built"])
def test_a_home_that_cannot_be_made(
    gpt2bot: Command, tmp_path: Path, command: Sequence[str], blocked: str
) -> None:
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("mine")
    done = gpt2bot(*command, DISCORD_TOKEN="x.y.z", GPT2BOT_HOME="home")
    assert_one_sentence(
        done, f"GPT2BOT_HOME is {tmp_path / 'home'}, but the bot cannot write there"
    )


def test_the_doctor_names_a_home_that_cannot_be_made(gpt2bot: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    found = json.loads(gpt2bot("doctor", "--json", GPT2BOT_HOME="file/below").stdout)["checks"]
    disk = next(one for one in found if one["name"] == "disk")
    home = tmp_path / "file/below"
    assert disk["detail"].startswith(f"GPT2BOT_HOME is {home}, and nothing can be written there")


def test_a_database_from_the_future(gpt2bot: Command, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    with closing(sqlite3.connect(tmp_path / "var" / "gpt2bot.sqlite3")) as db:
        db.execute("PRAGMA user_version = 9999")
    assert_one_sentence(gpt2bot("run", DISCORD_TOKEN="x.y.z"), "written by a newer version")


def test_the_demo_without_simcord_says_how_to_install_it(gpt2bot: Command) -> None:
    code = "import sys; sys.modules['simcord'] = None; from bot.__main__ import main;main()"
    done = gpt2bot("demo", "--no-browser", code=code)
    assert_one_sentence(done, 'pip install "simcord[preview]<3.3"')


def test_chat_with_a_wrong_seed(gpt2bot: Command) -> None:
    assert_one_sentence(gpt2bot("chat", "--seed", "-1", "hello"), "SEED is “-1”, but")


@pytest.mark.skipif(sys.platform == "win32", reason="needs exec")
def test_chat_without_an_input_to_read(gpt2bot: Command) -> None:
    close_and_chat = (
        "import os, sys; os.close(0);"
        "os.execv(sys.executable, [sys.executable, '-m', 'bot', 'chat'])"
    )
    assert_one_sentence(gpt2bot(code=close_and_chat), "give TEXT")


def test_chat_with_nothing_to_answer(gpt2bot: Command) -> None:
    assert_one_sentence(gpt2bot("chat", " "), "TEXT is empty")


def test_chat_with_an_unknown_model(gpt2bot: Command) -> None:
    assert_one_sentence(gpt2bot("chat", "--model", "gpt5", "hello"), "no model called “gpt5”")


def test_a_seed_gives_the_same_reply_again(talking: Command) -> None:
    one, two = [talking("chat", "--model", "tiny", "--seed", "1", "hello") for _ in range(2)]
    assert (one.returncode, one.stderr) == (0, "")
    assert one.stdout.strip()
    assert one.stdout.endswith("\n")
    assert two.stdout == one.stdout


def test_a_conversation_until_quit(talking: Command) -> None:
    lines = "hello\n\n/reset\nhello\n/quit\nnot read any more\n"
    done = talking("chat", "--model", "tiny", said=lines, SEED="1")
    first, second = done.stdout.splitlines()
    assert done.returncode == 0
    assert first == second, "after /reset, the same seed and text give the same reply"
    told = done.stderr.replace("you> ", "")
    assert told.splitlines() == [
        f"Talking to tiny. {HELP}",
        "Forgotten.",
    ]


def test_commands_of_discord_are_explained(talking: Command) -> None:
    done = talking("chat", "--model", "tiny", said="/help\n/teach\nQUIT\nnot read any more\n")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count(HELP) == 3


@pytest.mark.parametrize("word", ["exit", "QUIT", "/exit"])
async def test_other_words_end_it(
    word: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "said").write_text(f"hello\n{word}\nnot read any more\n")
    with (tmp_path / "said").open() as said:
        monkeypatch.setattr(sys, "stdin", said)
        await TerminalChat(FakeWorker(), model_options["tiny"], settings).loop(_StdinReader())
    assert capsys.readouterr().out == "you said hello\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal to be driven")
def test_before_a_large_download_somebody_at_a_terminal_is_asked(talking: Command) -> None:
    ours, theirs = os.openpty()
    environment = {
        **talking.environment,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "bot", "chat"],
        cwd=talking.folder,
        env=environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        os.write(ours, b"\nhello\nexit\n")
        said, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.strip()
    assert told.startswith("gpt2 is not on this computer yet: it is downloaded once (about 550 MB)")
    assert "[y/N] Talking to tiny." in told


@pytest.mark.skipif(sys.platform != "linux", reason="needs arguments of any bytes")
def test_an_argument_that_is_no_text_is_answered(talking: Command) -> None:
    done = talking("chat", "--model", "tiny", "--seed", "1", "hello \udcff")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_while_it_waits_for_a_line_is_quiet(talking: Command) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bot", "chat", "--model", "tiny"],
        cwd=talking.folder,
        env=talking.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        assert process.stderr.read(len("you> ")) == b"you> "
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == process.stdout.read() == b""


def test_train_says_what_is_wrong(gpt2bot: Command) -> None:
    assert_one_sentence(gpt2bot("train", "--dataset", "talk.csv"), "There is no file talk.csv")


def test_tiny_stands_in_for_a_default_model_that_cannot_be_had(talking: Command) -> None:
    done = talking("chat", "--seed", "1", "hello")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr.startswith("gpt2 ")
    assert done.stderr.endswith("tiny answers instead.\n")
    assert done.stderr.count("\n") == 1


def test_a_model_that_was_asked_for_must_load(talking: Command, tmp_path: Path) -> None:
    done = talking("chat", "--model", "mine", "hello", MODELS=f"mine={tmp_path / 'nowhere'}")
    assert_one_sentence(done, "nowhere")

"""The unit for this installation, made of the one that the documents show."""

from __future__ import annotations

import getpass
import io
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bot.cli.setup import service
from bot.cli.setup.service import UNIT, offer_service, unit_for
from tests.bot.cli.command import ROOT

SHIPPED = (ROOT / UNIT).read_text(encoding="utf-8")


def test_it_is_for_this_user_and_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = unit_for(SHIPPED, tmp_path / "my 100%").splitlines()
    assert f"User={getpass.getuser()}" in lines
    assert f"WorkingDirectory={tmp_path}" in lines
    assert f'ReadWritePaths="{tmp_path}/my 100%%"' in lines
    assert f'Environment="HF_HOME={tmp_path}/my 100%%/huggingface"' in lines
    assert {"ProtectSystem=strict", "ProtectHome=read-only", "NoNewPrivileges=yes"} <= set(lines)
    assert "/var/lib/gpt2bot" not in "\n".join(lines)
    assert "/opt/gpt2bot" not in "\n".join(lines)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_accepts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "with space" / "gpt2bot"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    unit = tmp_path / "gpt2bot.service"
    unit.write_text(unit_for(SHIPPED, tmp_path / "my 100%"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def with_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in a clone, on a machine with systemd."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(service, "SYSTEMD_RUNS", tmp_path)
    (tmp_path / UNIT.parent).mkdir()
    (tmp_path / UNIT).write_text(SHIPPED, encoding="utf-8")
    home = tmp_path / "my bot's"
    home.mkdir()
    return home


def test_the_command_is_for_a_folder_with_any_name(
    with_systemd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    offer_service(with_systemd, interactive=True)
    shown = capsys.readouterr().out
    file = with_systemd / UNIT.name
    assert shown.startswith(f"The unit is {file}. To install it: `sudo cp ")
    assert shlex.split(shown.split("`")[1])[2:4] == [str(file), "/etc/systemd/system/"]
    assert file.is_file()


def test_an_input_that_ends_is_no(with_systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    offer_service(with_systemd, interactive=True)
    assert list(with_systemd.iterdir()) == []


def test_nobody_is_asked_where_systemd_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(service, "SYSTEMD_RUNS", tmp_path / "nowhere")
    (tmp_path / UNIT.parent).mkdir()
    (tmp_path / UNIT).write_text(SHIPPED, encoding="utf-8")
    (tmp_path / "compose.yaml").touch()
    offer_service(tmp_path, interactive=True)
    assert capsys.readouterr().out == (
        "To run the bot in a container instead: `docker compose up -d --build`\n"
    )

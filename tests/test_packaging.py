"""What an operator installs: the wheel has all files, container and unit fit the bot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.app import ANNOUNCE_TIMEOUT_S, DRAIN_TIMEOUT_S
from bot.settings import Settings
from training.jobs.manager import STOP_TIMEOUT_S
from training.jobs.process import KILL_TIMEOUT_S

ROOT = Path(__file__).parent.parent
PACKAGES = ("bot", "core", "data", "i18n", "model", "training")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
UNIT = (ROOT / "deploy" / "gpt2bot.service").read_text(encoding="utf-8")
STOPPING_S = DRAIN_TIMEOUT_S + ANNOUNCE_TIMEOUT_S + STOP_TIMEOUT_S + KILL_TIMEOUT_S
"""Seconds that the bot may take to stop."""


def compose() -> Any:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["services"]["gpt2bot"]


def image_environment() -> dict[str, str]:
    [block] = re.findall(r"^ENV PATH.*\n(?:    .*\n)+", DOCKERFILE, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", block))


def unit(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("git"), reason="the list of files comes from git")
def test_the_wheel_has_every_file_of_the_packages_and_runs(tmp_path: Path) -> None:
    def run(*command: str, **more: Any) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=ROOT)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "installed")
    listed = run("git", "ls-files", "-co", "--exclude-standard", *PACKAGES, cwd=ROOT).splitlines()
    assert names == {name for name in listed if not name.startswith("training/tools/")}

    away = tmp_path / "elsewhere"
    away.mkdir()
    command = (sys.executable, "-m", "bot", "chat", "--model", "tiny", "hello")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    where = "import bot, sys; sys.stdout.write(bot.__file__)"
    found = run(sys.executable, "-c", where, cwd=away, env=environment)
    assert Path(found).is_relative_to(tmp_path)
    assert run(*command, cwd=away, env=environment).strip()


def test_the_image_has_all_packages_and_nothing_that_is_not_there() -> None:
    sources = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    files = {name for line in sources for name in line.split()}
    assert files >= set(PACKAGES)
    assert all((ROOT / name).exists() for name in files)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert files == {line.removeprefix("!") for line in ignored if line.startswith("!")}


def test_in_a_container_everything_is_written_to_the_volume() -> None:
    image, service = image_environment(), compose()
    [volume] = service["volumes"]
    folder = volume.split(":")[1]
    for environment in (image, service["environment"]):
        assert environment["GPT2BOT_HOME"] == folder
        assert Path(environment["HF_HOME"]).is_relative_to(folder)
        assert {"GPT2BOT_HOME", "HEALTH_PORT"} <= {*environment}
    settings = {name.upper() for name in Settings.model_fields}
    assert settings & {*image} == {"GPT2BOT_HOME", "HEALTH_PORT"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"][0].startswith("/tmp:")


def test_there_is_time_to_stop() -> None:
    grace = compose()["stop_grace_period"]
    [timeout] = unit("TimeoutStopSec")
    assert int(grace.removesuffix("s")) > STOPPING_S
    assert int(timeout) > STOPPING_S


def test_the_unit_keeps_everything_in_its_own_folder() -> None:
    [folder] = unit("StateDirectory")
    environment = dict(line.split("=", 1) for line in unit("Environment"))
    assert environment["GPT2BOT_HOME"] == f"/var/lib/{folder}"
    assert Path(environment["HF_HOME"]).is_relative_to(environment["GPT2BOT_HOME"])
    assert unit("WorkingDirectory") == [environment["GPT2BOT_HOME"]]
    assert unit("ProtectSystem") == ["strict"]
    assert unit("RestartPreventExitStatus") == ["2"]

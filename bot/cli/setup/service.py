"""What starts the bot with the machine: a systemd unit for this installation, or a container."""

from __future__ import annotations

import getpass
import shlex
import sys
from pathlib import Path

from bot.cli.questions import confirm
from core.files import write_atomically
from i18n.phrase import phrase
from i18n.reader import say

UNIT = Path("deploy/gpt2bot.service")
"""The unit of docs/operating.md, for an installation in /opt."""
SYSTEMD_RUNS = Path("/run/systemd/system")
"""A folder that is there where systemd is the init system (sd_booted(3))."""
COMPOSE = Path("compose.yaml")


def offer_service(home: Path, *, interactive: bool) -> None:
    """Write a unit if somebody wants that, and name the command for a container."""
    question = phrase("Write a systemd unit, so that the bot starts with this machine?")
    systemd = UNIT.is_file() and SYSTEMD_RUNS.is_dir()
    if systemd and interactive and confirm(question, default=False, optional=True):
        unit = unit_for(UNIT.read_text(encoding="utf-8"), home)
        file = home / UNIT.name
        write_atomically(file, unit.encode())
        print(
            say(
                "The unit is {file}. To install it: `sudo cp {word} /etc/systemd/system/ && "
                "sudo systemctl enable --now gpt2bot`",
                file=file,
                word=shlex.quote(str(file)),
            )
        )
    if COMPOSE.is_file():
        print(say("To run the bot in a container instead: `docker compose up -d --build`"))


def unit_for(unit: str, home: Path) -> str:
    """The unit with this user, this program, this folder and its `.env`.

    The system stays read-only for the bot, but for its home.
    """
    program = Path(sys.executable).with_name("gpt2bot")
    mine = {
        "ExecStart": f"{_quoted(program)} run",
        "User": getpass.getuser(),
        "Group": None,
        "StateDirectory": None,
        "StateDirectoryMode": None,
        "WorkingDirectory": str(Path.cwd()).replace("%", "%%"),
        "Environment=GPT2BOT_HOME": None,
        "Environment=HF_HOME": _quoted(f"HF_HOME={home / 'huggingface'}"),
        "ProtectSystem": f"strict\nReadWritePaths={_quoted(home)}",
        "ProtectHome": "read-only",
    }
    comment = phrase("The bot under systemd, as `gpt2bot setup` wrote it; see docs/operating.md.")
    lines = [f"# {say(comment)}"]
    for line in unit[unit.index("\n[Unit]") :].splitlines():
        name = next((one for one in mine if line.startswith(f"{one}=")), None)
        if name is None:
            lines.append(line)
        elif (value := mine[name]) is not None:
            lines.append(f"{name.partition('=')[0]}={value}")
    return "\n".join(lines) + "\n"


def _quoted(word: object) -> str:
    """A word in a unit, where `%` begins a specifier (systemd.unit(5))."""
    escaped = str(word).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'

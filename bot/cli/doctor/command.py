"""`gpt2bot doctor`: looks at everything that the bot needs, and says what to do where it fails."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from pydantic import ValidationError
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.cli.chat import QUIET_ENV
from bot.cli.doctor import account, worker
from bot.cli.doctor.database import DATABASE_CHECK, check_database
from bot.cli.doctor.wrapping import wrap_japanese
from bot.ops.checks import models
from bot.ops.checks.finding import Finding
from bot.ops.checks.machine import DISK, MEMORY, check_disk, check_memory
from bot.ops.checks.runner import Check, run_all, run_in_daemon_thread
from bot.settings import Settings, SettingsError, load_settings
from i18n.phrase import join_phrases, message_of, phrase
from i18n.reader import say
from model.errors import UnknownModel

SETTINGS = phrase("settings")
COLUMN_GAP = 2
"""Spaces between the columns."""
EXIT_PROBLEMS = 1
"""The exit status when something is wrong."""


async def diagnose(*, as_json: bool) -> int:
    """Look, tell on stdout, and return the exit status."""
    os.environ.update(QUIET_ENV)  # the worker inherits it
    settings, first = read_settings()
    console = Console(markup=False, highlight=False, emoji=False)
    if as_json:
        findings = [first, *await run_all(checks(settings))]
        sys.stdout.write(f"{findings_json(findings)}\n")
    else:
        with console.status(say("Looking…")):
            findings = [first, *await run_all(checks(settings))]
        console.print(findings_table(findings, console.width))
        console.print(f"\n{summary(findings)}")
    return 0 if all(one.ok for one in findings) else EXIT_PROBLEMS


def checks(settings: Settings) -> list[Check]:
    """Everything that is looked at, in the order in which it is told."""
    token = settings.discord_token.get_secret_value() if settings.discord_token else None

    def here(name: str, look: Callable[[], Sequence[Finding]], seconds: float) -> Check:
        return Check((name,), partial(run_in_daemon_thread, look), seconds)

    return [
        Check(account.NAMES, partial(account.check_account, token), 40),
        here(DATABASE_CHECK, partial(check_database, settings), 300),
        here(DISK, partial(check_disk, settings), 10),
        here(MEMORY, partial(check_memory, settings), 10),
        here(models.EMBEDDED_CHECK, models.check_embedded_model, 60),
        Check(models.HUB_NAMES, partial(models.check_hub, settings), 60),
        here(models.EXTRA_MODELS_CHECK, partial(models.check_extra_models, settings), 60),
        here(models.CHECKPOINTS_CHECK, partial(models.check_checkpoints, settings), 900),
        Check(worker.NAMES, partial(worker.check_worker, settings), 180),
    ]


def read_settings() -> tuple[Settings, Finding]:
    """The settings, with the default in place of each that is wrong, so that all can be told."""
    used: dict[str, object] = {}
    sentences = []
    while True:
        try:
            settings = load_settings(**used)
        except SettingsError as e:
            name = _override_name(e)
            if name in used:
                raise
            used[name] = None if name == "_env_file" else Settings.model_fields[name].default
            sentences.append(message_of(e))
            continue
        if not sentences:
            return settings, Finding(SETTINGS, True, phrase("All of them can be read."))
        advice = phrase(
            "Mend that in .env or in the environment; what follows goes by the defaults."
        )
        return settings, Finding(SETTINGS, False, join_phrases(sentences), advice)


def _override_name(error: SettingsError) -> str:
    """The argument of `load_settings` that puts something else in the place of what is wrong."""
    match error.__cause__:
        case ValidationError() as invalid:
            return str(invalid.errors()[0]["loc"][0])
        case UnknownModel():
            return "default_model"
        case _:
            return "_env_file"


def findings_json(findings: Sequence[Finding]) -> str:
    """One JSON object, for programs."""
    whole = {
        "ok": all(one.ok for one in findings),
        "checks": [asdict(one) for one in findings],
    }
    return json.dumps(whole, ensure_ascii=False, indent=2)


def findings_table(findings: Sequence[Finding], width: int) -> Table:
    """A line for each finding, and what to do under those that are not ok."""
    names = [say(one.name) for one in findings]
    room = width - len("ok") - max(map(cell_len, names)) - 2 * COLUMN_GAP
    table = Table.grid(padding=(0, COLUMN_GAP))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one, name in zip(findings, names, strict=True):
        mark = Text("ok", "green") if one.ok else Text("!!", "bold red")
        table.add_row(mark, name, Text(wrap_japanese(say(one.detail), room)))
        if one.advice:
            table.add_row("", "", Text(wrap_japanese(f"→ {say(one.advice)}", room), "bold"))
    return table


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    wrong, count = [one.name for one in findings if not one.ok], len(findings)
    if not wrong:
        return say("All {count} checks are ok.", count=count)
    return say(
        "{wrong} of {count} checks need a look: {names}.",
        wrong=len(wrong),
        count=count,
        names=join_phrases(wrong, ", "),
    )

"""`gpt2bot doctor`: checks everything that the bot needs, and says what to do about problems."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial

from pydantic import ValidationError
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.cli.chat import QUIET_ENV
from bot.cli.doctor import account, cluster, worker
from bot.ops.checks import machine, models
from bot.ops.checks.check import Check, Finding, run_all, thread_check
from bot.settings import Settings, SettingsError, load_settings
from i18n.phrase import join_phrases, message_of, phrase
from i18n.reader import say
from model.errors import UnknownModel

SETTINGS = phrase("settings")
COLUMN_GAP = 2
"""Spaces between the columns."""
NO_LINE_END, NO_LINE_START = "「『（“", "、。」』）”：；！？…ーっゃゅょッャュョ"
"""Characters that may not end or begin a line of Japanese (JIS X 4051)."""
WRAP_UNIT = re.compile(rf"[{NO_LINE_END}]*(?:[!-~…]+|\S)[{NO_LINE_START}]*\s*")
"""A Latin word or a single Japanese letter, with the punctuation that belongs to it."""


async def diagnose(*, as_json: bool) -> int:
    """Run the checks, print the findings, and return the exit status."""
    os.environ.update(QUIET_ENV)  # the worker inherits it
    settings, first = read_settings()
    console = Console(markup=False, highlight=False, emoji=False)
    with nullcontext() if as_json else console.status(say("Checking…")):
        findings = [first, *await run_all(checks(settings))]
    ok = all(one.ok for one in findings)
    if as_json:
        rows = [{"name": one.name, "ok": one.ok} | asdict(one) for one in findings]
        print(json.dumps({"ok": ok, "checks": rows}, ensure_ascii=False, indent=2))
    else:
        console.print(findings_table(findings, console.width))
        console.print(f"\n{summary(findings)}")
    return 0 if ok else 1


def checks(settings: Settings) -> list[Check]:
    """All checks, in the order of the report."""
    token = settings.discord_token.get_secret_value() if settings.discord_token else None
    return [
        Check(account.NAMES, partial(account.check_account, token), 40),
        thread_check(machine.DATABASE, partial(machine.check_database, settings), 300),
        thread_check(machine.DISK, partial(machine.check_disk, settings), 10),
        thread_check(machine.MEMORY, partial(machine.check_memory, settings), 10),
        thread_check(models.EMBEDDED, models.check_embedded_models, 60),
        Check(models.HUB_NAMES, partial(models.check_hub, settings), 60),
        thread_check(models.MODELS, partial(models.check_extra_models, settings), 60),
        thread_check(models.CHECKPOINTS, partial(models.check_checkpoints, settings), 900),
        thread_check(models.INT8, partial(models.check_int8, settings), 10),
        Check(worker.NAMES, partial(worker.check_worker, settings), 180),
        *_cluster_checks(settings),
    ]


def _cluster_checks(settings: Settings) -> list[Check]:
    """None, if the bot uses no cluster."""
    if settings.ray_address is None:
        return []
    check = partial(cluster.check_cluster, settings, settings.ray_address)
    return [Check(cluster.NAMES, check, 300)]


def read_settings() -> tuple[Settings, Finding]:
    """The settings, with the default in place of each invalid one, so that all are reported."""
    overrides: dict[str, object] = {}
    errors = []
    while True:
        try:
            settings = load_settings(**overrides)
        except SettingsError as e:
            name = _override_name(e)
            if name in overrides:
                raise
            overrides[name] = None if name == "_env_file" else Settings.model_fields[name].default
            errors.append(message_of(e))
            continue
        if not errors:
            return settings, Finding(SETTINGS, phrase("All of them are valid."))
        advice = phrase(
            "Correct that in .env or in the environment; the checks below use the defaults."
        )
        return settings, Finding(SETTINGS, join_phrases(errors), advice)


def _override_name(error: SettingsError) -> str:
    """The argument of `load_settings` that overrides the invalid setting."""
    match error.__cause__:
        case ValidationError() as invalid:
            return str(invalid.errors()[0]["loc"][0])
        case UnknownModel():
            return "default_model"
        case _:
            return "_env_file"


def findings_table(findings: Sequence[Finding], width: int) -> Table:
    """A line for each finding, and the advice below it."""
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


def wrap_japanese(text: str, width: int) -> str:
    """Break a text into lines of at most `width` cells.

    Rich breaks lines at spaces only, of which Japanese has none. It wraps the other texts.
    """
    if cell_len(text) == len(text):
        return text
    lines = [""]
    for unit in WRAP_UNIT.findall(text):
        if lines[-1] and cell_len(lines[-1] + unit.rstrip()) > width:
            lines.append("")
        lines[-1] += unit
    return "\n".join(line.rstrip() for line in lines)


def summary(findings: Sequence[Finding]) -> str:
    """The last line of the report."""
    failed, count = [one.name for one in findings if not one.ok], len(findings)
    if not failed:
        return say("All {count} checks passed.", count=count)
    return say(
        "{failed} of {count} checks failed: {names}.",
        failed=len(failed),
        count=count,
        names=join_phrases(failed, ", "),
    )

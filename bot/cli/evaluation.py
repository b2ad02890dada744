"""`gpt2bot eval`: asks a server's golden questions in the terminal. The bot may run meanwhile."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bot.app import golden_questions
from bot.cli.chat import QUIET_ENV
from bot.judgement.golden import GoldenRun
from bot.ops.recovery import existing_database
from bot.settings import SettingsError, load_settings
from core.records import GOLDEN_DRAWS
from core.texts import one_line
from data.judgement.golden import GoldenResult, describe
from data.storage.storage import open_storage
from i18n.phrase import phrase, phrases
from i18n.reader import say

NO_TIME_LIMIT = float("inf")
MAX_TEXT_CHARS = 60
"""Characters shown of a text."""


async def evaluate_model(server: int, model: str | None, *, as_json: bool) -> int:
    """Ask the golden questions of a server, print what came of it, and return the exit status: 1 if
    the model in service passed one the last time that is failed now.

    Raises:
        SettingsError: there is no database, or the server has no golden question.
        StoreError, ModelError: the database or the model cannot be used.
    """
    os.environ.update(QUIET_ENV)  # the worker inherits it
    settings = load_settings()
    database = existing_database(settings)
    async with open_storage(database, key=settings.key) as storage:
        if not await storage.golden.all(server):
            raise SettingsError(
                phrase(
                    "The server {server} has no golden question: `/golden add` adds one.",
                    server=server,
                )
            )
        async with golden_questions(settings, storage, server, model) as questions:
            console = Console(stderr=True)
            with console.status(say("Asking…")):
                run = await questions.run(server, model, limit_s=NO_TIME_LIMIT)
    if as_json:
        print(json.dumps(_record(server, run), ensure_ascii=False, indent=2))
    else:
        _print_table(run)
    return 1 if run.regressions else 0


def _record(server: int, run: GoldenRun) -> dict[str, object]:
    """The results for programs."""
    return {
        "server": server,
        "model": run.model,
        "passed": sum(one.passed for one in run.results),
        "asked": len(run.results),
        "regressions": [one.question.id for one in run.regressions],
        "questions": [_question_record(run, one) for one in run.results],
    }


def _question_record(run: GoldenRun, one: GoldenResult) -> dict[str, object]:
    asked = asdict(one.question)
    return {
        **{name: asked[name] for name in ("id", "question", "kind", "expected", "needed")},
        "alone": one.alone,
        "in_talk": one.in_talk,
        "passed": one.passed,
        "passed_before": run.passed_before(one),
        "said": one.said,
    }


def _print_table(run: GoldenRun) -> None:
    table = Table(title=escape(say("Golden questions: {model}", model=run.model)))
    table.add_column("#", justify="right")
    table.add_column(say("Question"))
    table.add_column(say("Should"))
    for heading in (say("Alone"), say("Amid talk")):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(say("Result"))
    for one in run.results:
        table.add_row(
            str(one.question.id),
            escape(one_line(one.question.question, MAX_TEXT_CHARS)),
            escape(one_line(say(describe(one.question)), MAX_TEXT_CHARS)),
            f"{one.alone}/{GOLDEN_DRAWS}",
            f"{one.in_talk}/{GOLDEN_DRAWS}",
            escape(_verdict(run, one)),
        )
    console = Console(highlight=False, emoji=False)
    console.print(table)
    console.print(_summary(run), markup=False)


def _verdict(run: GoldenRun, one: GoldenResult) -> str:
    if one.passed:
        return say("passed")
    said = one_line(one.said, MAX_TEXT_CHARS)
    if run.passed_before(one):
        return say("lost: “{said}”", said=said)
    return say("failed: “{said}”", said=said)


def _summary(run: GoldenRun) -> str:
    if lost := len(run.regressions):
        return say(
            phrases(
                "The model in service passed {count} question that {model} fails.",
                "The model in service passed {count} questions that {model} fails.",
                lost,
                model=run.model,
            )
        )
    passed = sum(one.passed for one in run.results)
    return say("{passed} of {all} passed.", passed=passed, all=len(run.results))

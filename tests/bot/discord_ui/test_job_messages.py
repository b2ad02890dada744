"""How a job is told: one message that changes, its buttons, and what came of it.

No training runs here: the test says what a run would tell.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.app import build_bot
from bot.discord_ui.cogs.training import PAUSING
from bot.discord_ui.embeds.style import quote_safely
from bot.discord_ui.embeds.training.evaluation import comparison_embed
from bot.discord_ui.reports.job_messages import (
    EDIT_INTERVAL_S,
    END_TEXT_BY_STATE,
    REPOST_AFTER_S,
    TrainingReports,
)
from bot.settings import Settings
from core.records import JobState, TrainingJob
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker
from training.checkpoints import LOSS_CURVE_FILE, REPORT_FILE, StoredReport
from training.jobs.events import (
    Checking,
    Event,
    Loading,
    Lost,
    Lowered,
    Paused,
    Preparing,
    Saved,
    Started,
    Step,
    Waiting,
)
from training.jobs.queue import JobUpdate

STARTED = Started("cpu", "fp32", 1000, 1000, 40, 900, 80, 10.0, 16, 1, 7e-4, taught=12)
PNG = b"\x89PNG\r\n\x1a\n"


def step(number: int, loss: float = 2.0) -> Step:
    return Step(number, 80, number / 8, loss, 1234.5, 20.0)


@dataclass
class Run:
    """A job of which the test says what happens."""

    world: World
    storage: Storage
    job: TrainingJob
    now: float = 1000.0
    tasks: BackgroundTasks = field(default_factory=BackgroundTasks)

    def __post_init__(self) -> None:
        self.reports = TrainingReports(
            self.world.bot,
            self.tasks,
            self.world.home / "checkpoints",
            self.storage.jobs,
            self.storage.audit,
            clock=lambda: self.now,
        )

    async def tell(self, *events: Event) -> None:
        for event in events:
            await self.update(JobUpdate(self.job, event))

    async def move(self, state: JobState, detail: str | None = None, **made: str) -> None:
        self.job = await self.storage.jobs.set_state(self.job.id, state, detail=detail, **made)
        await self.update(JobUpdate(self.job, None))

    async def update(self, update: JobUpdate) -> None:
        """Hand the news over, and wait for what is being posted."""
        with self.world.env.time_context():  # messages have SimCord's time
            await self.reports.update(update)
        await self.tasks.close(grace_s=20)

    @property
    def messages(self) -> list[discord.Message]:
        bot = self.world.bot.user
        return [m for m in self.world.general.history() if m.author == bot]

    @property
    def text(self) -> str:
        return self.messages[-1].content

    def buttons(self, message: discord.Message | None = None) -> list[str]:
        rows = (message or self.messages[-1]).components
        return [button.label for row in rows for button in row.children]


async def new_run(world: World) -> Run:
    cog = world.bot.get_cog("Training")
    job = await cog._storage.jobs.add(
        scope=world.guild.id,
        requested_by=world.ada.id,
        channel_id=world.general.id,
        base_model="tiny",
        directory=str(world.home / "jobs" / "one"),
    )
    return Run(world, cog._storage, job)


@pytest.fixture
async def run(world: World) -> Run:
    run = await new_run(world)
    await run.move(JobState.RUNNING)
    return run


async def test_one_message_shows_bar_loss_speed_and_time(run: Run) -> None:
    assert run.text == "**Training** from tiny: starting…"
    await run.tell(Preparing())
    assert run.text == "**Training** from tiny: preparing what is to be learned…"
    await run.tell(STARTED)
    assert run.text == "**Training** from tiny: 12 examples in 40 rows, 80 steps."
    for number, loss in ((1, 3.0), (2, 2.5), (40, 2.0)):
        run.now += EDIT_INTERVAL_S
        await run.tell(step(number, loss))
    assert run.text.splitlines() == [
        "**Training** from tiny",
        "`██████████░░░░░░░░░░` 50 %, step 40 of 80",
        "loss 2.000 `█▅▁` · 1,234 tokens/s · about 20 s left",
    ]
    assert len(run.messages) == 1
    assert run.buttons() == ["Pause", "Cancel"]


async def test_steps_are_shown_every_few_seconds_only(run: Run) -> None:
    await run.tell(STARTED, step(1))
    assert "rows" in run.text
    run.now += EDIT_INTERVAL_S - 0.1
    await run.tell(step(2))
    assert "rows" in run.text
    run.now += 0.1
    await run.tell(Saved(3))
    assert "rows" in run.text
    await run.tell(step(3))
    assert "step 3 of 80" in run.text
    assert "`▁▁▁`" in run.text


async def test_many_steps_at_once_are_few_edits(run: Run) -> None:
    before = len(run.world.env.http_requests)
    for _ in range(2):
        run.now += EDIT_INTERVAL_S
        for number in range(1, 60):
            await run.reports.update(JobUpdate(run.job, step(number)))
        await run.tell(step(60))
    assert "step 60 of 80" in run.text
    assert [one.method for one in run.world.env.http_requests[before:]] == ["PATCH", "PATCH"]


async def test_what_happens_is_shown_at_once(run: Run) -> None:
    await run.tell(STARTED, Lowered(4, 2))
    assert "-# Out of memory: continuing with batch size 4 and accumulation 2." in run.text
    await run.tell(step(80), Checking())
    assert "all steps are done, evaluating the new model…" in run.text
    assert "100 %, step 80 of 80" in run.text
    assert run.buttons() == ["Cancel"]
    await run.tell(Loading())
    assert "the new model has passed, loading it…" in run.text
    assert run.buttons() == []


async def test_what_befalls_a_run_on_a_cluster_is_shown_at_once(run: Run) -> None:
    await run.tell(Waiting())
    assert "waiting for the cluster to have room…" in run.text
    await run.tell(STARTED, step(40), Lost())
    assert "-# A machine of the cluster was lost: the training goes on elsewhere" in run.text


async def test_a_run_that_begins_again_begins_a_new_curve(run: Run) -> None:
    await run.tell(STARTED, step(1, 9.0), step(2, 8.0), Lowered(8, 2), STARTED)
    run.now += EDIT_INTERVAL_S
    await run.tell(step(1, 3.0))
    assert "`▁`" in run.text


async def test_a_paused_job_says_where_and_goes_on_there(run: Run) -> None:
    await run.tell(STARTED)
    run.now += EDIT_INTERVAL_S
    await run.tell(step(39, 3.0), step(40, 2.0), Saved(40), Paused(40))
    await run.move(JobState.PAUSED, "Paused after step 40.")
    assert "Paused at step 40 of 80." in run.text
    assert "50 %" in run.text
    assert run.buttons() == ["Resume", "Cancel"]
    await run.move(JobState.QUEUED)
    await run.move(JobState.RUNNING)
    assert run.buttons() == ["Pause", "Cancel"]
    assert "50 %" in run.text
    await run.tell(Started(**{**as_fields(STARTED), "resumed_from": 40}))
    assert "continues after step 40 of 80." in run.text
    run.now += EDIT_INTERVAL_S
    await run.tell(step(41, 1.0))
    assert "step 41 of 80" in run.text
    assert "`█▅▁`" in run.text
    assert len(run.messages) == 1


def as_fields(started: Started) -> dict[str, Any]:
    return {name: getattr(started, name) for name in started.__slots__}


async def test_a_job_that_waits_says_so(run: Run) -> None:
    other = await run.storage.jobs.add(
        scope=1, requested_by=1, channel_id=run.job.channel_id, base_model="gpt2", directory=""
    )
    await run.update(JobUpdate(other, None))
    assert run.text == "**Training** from gpt2 waits: another job is under way."
    assert run.buttons() == ["Pause", "Cancel"]


async def test_after_an_hour_a_new_message_goes_on(run: Run) -> None:
    await run.tell(STARTED)
    run.now += REPOST_AFTER_S
    await run.tell(step(10))
    old, new = run.messages
    assert run.buttons(old) == []
    assert run.buttons(new) == ["Pause", "Cancel"]
    assert "step 10 of 80" in new.content
    job = await run.storage.jobs.get(run.job.id)
    assert job is not None
    assert job.message_id == new.id


async def test_a_deleted_message_is_posted_again(run: Run) -> None:
    await run.world.ada.delete(run.messages[-1])
    assert run.messages == []
    await run.tell(STARTED)
    [message] = run.messages
    assert "80 steps" in message.content


async def test_a_bot_that_was_started_again_goes_on_in_the_same_message(run: Run) -> None:
    await run.tell(STARTED)
    job = await run.storage.jobs.get(run.job.id)
    assert job is not None
    again = Run(run.world, run.storage, job)
    await again.tell(Started(**{**as_fields(STARTED), "resumed_from": 20}))
    [message] = again.messages
    assert "25 %" in message.content
    assert "continues after step 20 of 80." in message.content


async def test_where_the_bot_may_not_write_nothing_breaks(run: Run) -> None:
    run.world.env.inject_error("PATCH", "/channels/*/messages/*", status=403, code=50013)
    await run.tell(STARTED)
    assert "starting…" in run.text
    run.now += EDIT_INTERVAL_S
    await run.tell(step(1))
    assert "starting…" in run.text


COMPARED: dict[str, Any] = {
    "answers": [
        {"prompt": "Who are **you**?", "before": "", "after": "@everyone `I` am <@1> " + "x" * 999},
        *({"prompt": f"Question {n}", "before": "a", "after": "b"} for n in range(4)),
    ],
    "losses": {
        "general": {"base": 3.0, "serving": 2.8, "new": 2.5},
        "own": {"base": 5.0, "serving": None, "new": 0.12345},
    },
    "data": {"added": 3, "removed": 1, "same": 9},
    "seconds": 75.0,
}


async def made(run: Run, name: str = "tiny-1") -> None:
    """What the end of a run leaves in the checkpoint's folder, as far as it is shown."""
    folder = run.world.home / "checkpoints" / str(run.job.scope) / name
    await asyncio.to_thread(_write, folder)


def _write(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOSS_CURVE_FILE).write_bytes(PNG)
    (folder / REPORT_FILE).write_text(json.dumps(COMPARED), encoding="utf-8")


@pytest.mark.parametrize("state", [JobState.PROMOTED, JobState.REJECTED])
async def test_the_end_shows_what_changed(run: Run, state: JobState) -> None:
    await made(run)
    await run.move(state, "The sentence about **tiny-1**.", checkpoint="tiny-1")
    progress, end = run.messages
    assert progress.content == END_TEXT_BY_STATE[state]
    assert run.buttons(progress) == []
    assert end.content == "The sentence about **tiny-1**."
    assert end.attachments[0].filename == "loss.png"
    assert await end.attachments[0].read() == PNG
    [embed] = end.embeds
    fields = {field.name: field.value for field in embed.fields}
    assert fields.pop("Loss (lower is better)").splitlines() == [
        "General talk (held out): base 3.00 · in service 2.80 · new 2.50",
        "What was taught: base 5.00 · new 0.12",
    ]
    assert fields.pop("Data") == "+3 −1"
    assert fields.pop("Time taken") == "1 min 15 s"
    assert list(fields) == ["“Who are \\*\\*you\\*\\*?”", "“Question 0”", "“Question 1”"]
    before, after = fields["“Who are \\*\\*you\\*\\*?”"].splitlines()
    assert before == "before: *nothing*"
    assert after.startswith("after: @\u200beveryone \\`I\\` am \\<@1> xxx")
    assert after.endswith("x…")


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
async def test_other_ends_are_one_sentence(run: Run, state: JobState) -> None:
    await run.move(state, "It ended.")
    progress, end = run.messages
    assert progress.content == END_TEXT_BY_STATE[state]
    assert end.content == "It ended."
    assert not end.embeds
    assert not end.attachments
    assert run.buttons(end) == []


async def test_an_interrupted_job_offers_to_resume_in_a_new_message(run: Run) -> None:
    await run.move(JobState.INTERRUPTED, "It was interrupted. Resume goes on.")
    progress, end = run.messages
    assert run.buttons(progress) == []
    assert run.buttons(end) == ["Resume"]
    await run.move(JobState.RUNNING)
    assert len(run.messages) == 3
    assert run.buttons() == ["Pause", "Cancel"]


async def test_the_end_is_told_where_files_are_not_allowed(run: Run) -> None:
    await made(run)
    run.world.env.inject_error("POST", "/channels/*/messages", status=403, code=50013)
    await run.move(JobState.PROMOTED, "**tiny-1** answers from now on.", checkpoint="tiny-1")
    assert run.text == "**tiny-1** answers from now on."
    assert not run.messages[-1].embeds


def test_an_embed_of_the_longest_texts_stays_within_discords_limits() -> None:
    answers = [{"prompt": "*" * 500, "before": "<" * 5000, "after": "`" * 5000}] * 5
    embed = comparison_embed(StoredReport(**(COMPARED | {"answers": answers})))
    assert embed is not None
    assert len(embed) <= 6000
    assert all(len(f.name) <= 256 and len(f.value) <= 1024 for f in embed.fields)


ASKED: dict[str, Any] = {
    "summary": "11 of 12 taught answers known, 1 of 20 near misses answered wrongly, 1 odd reply",
    "failures": [
        {"prompt": "hello *👋*", "reply": "", "wrong": "nobody can read it"},
        *({"prompt": f"Where {n}?", "reply": "`Here`", "wrong": "no"} for n in range(6)),
    ],
}


def test_what_was_answered_wrongly_is_shown_in_place_of_samples() -> None:
    embed = comparison_embed(StoredReport(**(COMPARED | ASKED)))
    assert embed is not None
    fields = {field.name: field.value for field in embed.fields}
    assert fields["Asked as people ask"] == ASKED["summary"]
    assert fields["“hello \\*👋\\*”"] == "*nothing* (nobody can read it)"
    assert fields["“Where 3?”"] == "\\`Here\\` (no)"
    assert not {"“Where 4?”", "“Question 0”"} & set(fields)
    assert embed.footer.text == "2 more wrong answers are in report.json."
    long = [{"prompt": "*" * 500, "reply": "<" * 5000, "wrong": "x" * 40}] * 60
    embed = comparison_embed(StoredReport(**(COMPARED | ASKED | {"failures": long})))
    assert embed is not None
    assert len(embed) <= 6000


def test_a_model_without_a_wrong_answer_is_shown_in_one_line() -> None:
    embed = comparison_embed(StoredReport(**(COMPARED | ASKED | {"failures": []})))
    assert embed is not None
    names = [field.name for field in embed.fields]
    assert names == ["Loss (lower is better)", "Asked as people ask", "Data", "Time taken"]
    assert embed.footer.text is None


def test_an_empty_report_has_no_embed() -> None:
    assert comparison_embed(StoredReport()) is None


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("two\n\nlines", "two lines"),
        ("# big", "\\# big"),
        ("||secret||", "\\|\\|secret\\|\\|"),
        ("@here", "@\u200bhere"),
        ("abcdefghijk", "abcdefghi…"),
    ],
)
def test_quoted_text_is_harmless(text: str, safe: str) -> None:
    assert quote_safely(text, 10) == safe


# --- the buttons ---------------------------------------------------------------------------------


async def waiting(world: World) -> Run:
    """A queued job with a progress message, and a queue that nobody works on."""
    world.bot.get_cog("Training")._training._queue_task.cancel()
    run = await new_run(world)
    await run.move(JobState.RUNNING)
    await run.storage.jobs.set_state(run.job.id, JobState.QUEUED)
    return run


async def state(run: Run) -> JobState:
    job = await run.storage.jobs.get(run.job.id)
    assert job is not None
    return job.state


async def test_pause_resume_and_cancel_by_button(world: World) -> None:
    run = await waiting(world)
    paused = await world.ada.click(run.messages[0], label="Pause")
    assert paused.ephemeral
    assert paused.response.content == PAUSING
    assert await state(run) is JobState.PAUSED
    assert run.messages[0].content == "**Training** from tiny. Paused before it began."
    assert run.buttons(run.messages[0]) == ["Resume", "Cancel"]

    old = run.messages[0]
    resumed = await world.ada.click(old, label="Resume")
    assert resumed.response.content == "It continues."
    assert await state(run) is JobState.QUEUED
    late = await world.ada.click(old, label="Resume")
    assert late.response.content == "That job is not paused."

    ended = await world.ada.click(old, label="Cancel")
    assert ended.response.content == "Stopping it."
    assert await state(run) is JobState.CANCELLED
    assert run.messages[0].content == "The training was stopped. Nothing has changed."
    assert run.buttons(run.messages[0]) == []


async def test_pressing_pause_too_late_says_so(world: World) -> None:
    run = await waiting(world)
    await run.storage.jobs.set_state(run.job.id, JobState.FAILED)
    pause = await world.ada.click(run.messages[0], label="Pause")
    assert pause.response.content == "That job cannot be paused any more."
    cancel = await world.ada.click(run.messages[0], label="Cancel")
    assert cancel.response.content == "That job cannot be stopped any more."


async def test_only_admins_press_the_buttons(world: World) -> None:
    run = await waiting(world)
    for label in ("Pause", "Cancel"):
        pressed = await world.ben.click(run.messages[0], label=label)
        assert pressed.ephemeral
        assert pressed.response.content == "You need the permission Administrator for that."
    assert await state(run) is JobState.QUEUED


async def test_a_button_of_another_servers_job_does_nothing(
    settings: Settings, worker: FakeWorker
) -> None:
    async with open_world(settings, worker, check_errors=False) as world:
        run = await waiting(world)
        await run.storage._execute("UPDATE jobs SET scope = scope + 1")
        for label in ("Pause", "Cancel"):
            pressed = await world.ada.click(run.messages[0], label=label)
            assert pressed.ephemeral
            assert pressed.response.content == "That is no training job of this server."
        assert await state(run) is JobState.QUEUED


async def test_the_buttons_work_after_a_restart(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    run = await waiting(world)
    await world.ada.click(run.messages[0], label="Pause")
    async with build_bot(settings, worker=worker) as again:
        await world.env.restart_bot(again)
        world.bot = again
        again.get_cog("Training")._training._queue_task.cancel()
        resumed = await world.ada.click(run.messages[0], label="Resume")
        assert resumed.response.content == "It continues."
        assert await state(run) is JobState.QUEUED
        await world.ada.click(run.messages[0], label="Cancel")
        assert await state(run) is JobState.CANCELLED
        assert run.messages[0].content == "The training was stopped. Nothing has changed."

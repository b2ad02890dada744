"""Teaching, retraining and the reports of a job, as Japanese people read them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.cli.train.display import settings_table
from bot.cli.train.request import TrainRequest, prepare
from bot.cli.train.run import EXIT_REJECTED, run_training
from bot.discord_ui.cogs.training import PAUSING
from bot.discord_ui.embeds.plan import memory_text, plan_embed
from bot.learning.retraining import Overrides, RetrainPlan
from bot.settings import Settings
from core.records import JobState, Pair, TrainingJob
from data.dataset.cleaning import Selection
from i18n.phrase import phrase
from i18n.reader import use_language
from model.registry import ModelOption
from tests.bot.cli.test_train import SCRIPTED, Screen, data, script
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.dataset.test_cog import taught
from tests.bot.discord_ui.test_job_messages import (
    COMPARED,
    EDIT_INTERVAL_S,
    STARTED,
    Run,
    as_fields,
    made,
    new_run,
    step,
)
from tests.bot.discord_ui.test_job_messages import waiting as waiting_run
from tests.bot.japanese.discord import (
    assert_all_japanese,
    assert_japanese,
    assert_lines_japanese,
    english_in,
    shown,
    speak_japanese,
    texts,
)
from tests.fakes import FakeWorker
from training.checkpoints import REPORT_FILE
from training.config import TrainingConfig
from training.errors import ChildFailed
from training.jobs.events import Checking, Lowered, Paused, Saved, Started
from training.jobs.folder import CONFIG_FILE
from training.jobs.outcome import SERVING_UNCHANGED
from training.jobs.preview import Preview
from training.jobs.queue import JobUpdate

NO_WORDS = ("cpu", "auto", "lora", "teach", "fp")
"""What Japanese people read as it is, too."""


@pytest.fixture
async def world(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """A Japanese server, whose members read English unless a test says otherwise."""
    async with open_world(settings, worker, preferred_locale="ja", check_errors=False) as world:
        yield world


# --- teaching and the plan -----------------------------------------------------------------------


async def test_what_was_taught_is_noted_in_the_language_of_the_server(world: World) -> None:
    noted = await world.ben.slash(world.general, "teach", user="やあ", bot="こんにちは")
    assert noted.response.content == (
        "覚えておきます。「やあ」と言われたら「こんにちは」と答えるのですね。\n"
        "-# これまでに1件の例があります。管理者が `/再学習` を始めると学びます。"
    )


async def test_an_admin_reads_japanese_and_the_job_is_told_in_the_english_of_the_server(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(settings, worker, check_errors=False) as world:
        speak_japanese(monkeypatch, world.ada)
        training = idle(world)

        async def retrain(**options: Any) -> Any:
            return (await world.ada.slash(world.general, "retrain", **options)).response

        await retrain()
        await taught(world, Pair("やあ", "こんにちは"))
        await retrain(dry_run=True)
        plan = await retrain()
        assert {one.name: one.value for one in plan.embeds[0].fields}["学習率"] == "0.0002"
        await world.ada.click(plan, label="中止")
        await world.ada.click(await retrain(), label="開始")
        await retrain()
        assert_all_japanese(world, *NO_WORDS)
        job = await only_job(world, language="en")
        paused = JobUpdate(replace(job, state=JobState.PAUSED), None)
        await Run(world, training._storage, job).update(paused)
        assert world.last() == "**Training** from tiny. Paused."


async def test_an_admin_reads_english_and_the_run_is_told_the_japanese_of_the_server(
    world: World,
) -> None:
    idle(world)
    await taught(world, Pair("やあ", "こんにちは"))
    plan = await world.ada.slash(world.general, "retrain")
    assert plan.response.embeds[0].title == "Retrain from tiny?"
    await world.ada.click(plan.response, label="Start")
    await only_job(world, language="ja")


def idle(world: World) -> Any:
    """The cog of the training, whose queue nobody works on."""
    training = world.bot.get_cog("Training")
    training._training._queue_task.cancel()
    return training


async def only_job(world: World, *, language: str) -> TrainingJob:
    [job] = await world.bot.get_cog("Training")._storage.jobs.unfinished(world.guild.id)
    assert TrainingConfig.load(Path(job.directory) / CONFIG_FILE).language == language
    return job


@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_setting_and_every_doubt_of_a_plan(method: Any) -> None:
    usual = TrainingConfig(name="tiny", base=None, base_name="tiny", min_steps=9, replay=0)
    config = replace(usual, gradient_accumulation=2, loss_on="all", threads=1, max_length=8)
    config = Overrides(1.0, None, method).apply(config)
    nothing = Preview(Selection((), {}, {}, {}, {}, {}, {}), 1, 2, False, 3, 4.5, None, 9, 1, 9)
    authors = replace(
        nothing.selection, by_author=dict.fromkeys(range(1, 8), 1), rule_counts={"印": 1}
    )
    more = replace(nothing, selection=authors, seconds=75.0, memory_mb=9.0, longest=5)
    with use_language("ja"):
        for preview in (nothing, more):
            plan = RetrainPlan(1, ModelOption("tiny", "", "", "", "", ""), config, preview)
            assert_lines_japanese(texts(plan_embed(plan, "fp32").to_dict()), *NO_WORDS)
        assert_lines_japanese([memory_text(9.0, free, method) for free in (None, 10.0)])


# --- a job ---------------------------------------------------------------------------------------


ASKED = {"prompt": "Who?", "before": "", "after": "Me"}
REPORT_OF = COMPARED | {"answers": [ASKED]}


def write_report(run: Run) -> None:
    folder = run.world.home / "checkpoints" / str(run.job.scope) / "tiny-1"
    (folder / REPORT_FILE).write_text(json.dumps(REPORT_OF), encoding="utf-8")


@pytest.fixture
async def run(world: World) -> Run:
    run = await new_run(world)
    await run.move(JobState.RUNNING)
    return run


async def test_all_that_a_progress_message_says(run: Run) -> None:
    await run.tell(STARTED)
    run.now += EDIT_INTERVAL_S
    await run.tell(step(40), Lowered(4, 2))
    assert "50%、ステップ40/80" in run.text
    assert "残り約20秒" in run.text
    await run.tell(Checking())
    await run.tell(Started(**{**as_fields(STARTED), "resumed_from": 40}), Saved(40), Paused(40))
    await run.move(JobState.PAUSED, phrase("Paused before it began."))
    assert run.buttons() == ["再開", "中止"]
    other = replace(run.job, id=99, state=JobState.QUEUED)
    await run.move(JobState.RUNNING)
    await run.update(JobUpdate(other, None))
    assert "順番待ち" in run.text
    assert_all_japanese(run.world)


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
async def test_each_end_of_a_job(run: Run, state: JobState) -> None:
    await made(run)
    write_report(run)
    await run.move(state, phrase("The training was cancelled."), checkpoint="tiny-1")
    assert run.text == "学習を中止しました。"
    compared = state in (JobState.PROMOTED, JobState.REJECTED)
    assert ("損失（低いほどよい）" in shown(run.world)) == compared
    assert_all_japanese(run.world, "Who", *NO_WORDS)


async def test_a_job_of_an_old_version_is_told_as_it_was_written(run: Run) -> None:
    sentence = "Paused. What was learned up to step {9} is kept."
    sql = "UPDATE jobs SET detail = ?, state = 'paused' WHERE id = ?"
    await run.storage._fetch_all(sql, sentence, run.job.id)
    job = await run.storage.jobs.get(run.job.id)
    assert job is not None
    await run.update(JobUpdate(job, None))
    assert run.text.startswith(f"tiny からの**学習**：{sentence}")
    await run.move(JobState.FAILED, None)
    assert run.text == sentence


async def test_the_buttons_answer_whoever_pressed_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def press(label: str) -> str:
        return str((await world.ada.click(run.messages[0], label=label)).response.content)

    run = await waiting_run(world)
    assert await press("一時停止") == PAUSING
    speak_japanese(monkeypatch, world.ada)
    assert await press("再開") == "続きから再開します。"
    assert await press("再開") == "その学習は一時停止していません。"
    assert await press("中止") == "中止しています。"
    assert run.messages[0].content == "学習は中止されました。"


async def test_buttons_that_are_pressed_too_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_japanese(monkeypatch)
    run = await waiting_run(world)
    await run.storage.jobs.set_state(run.job.id, JobState.FAILED)
    for label in ("一時停止", "中止"):
        await world.ada.click(run.messages[0], label=label)
    assert_all_japanese(world)


# --- in the terminal -----------------------------------------------------------------------------


CODE = ("mine", "Python", "AutoModelForCausalLM", "from", "pretrained", "absolute")


@pytest.fixture
def order(tmp_path: Path) -> TrainRequest:
    config = TrainingConfig(name="mine", base="gpt2", base_name="gpt2")
    return TrainRequest(config, "talk.csv", tmp_path / "made" / "mine", SCRIPTED)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_table_of_settings(order: TrainRequest, method: Any) -> None:
    config = replace(order.config, method=method, loss_on="all" if method == "lora" else "bot")
    started = Started("cpu", "bf16", 5, 3, 9, 1234, 70, 2.5, 4, 2, 1e-4)
    for begun in (None, started):
        screen = Screen()
        with use_language("ja"):
            screen.print(settings_table(replace(order, config=config), data(), begun))
        rows = [line.split("│") for line in screen.text.splitlines() if "│" in line]
        assert [row for row in rows if english_in("".join(row[:2]), "FP16")] == []
        values = [row[2] for row in rows if row[1].strip() not in ("データセット", "出力先")]
        assert [value for value in values if english_in(value, *NO_WORDS)] == []
        assert_japanese(screen.text.splitlines()[0])


async def test_what_a_run_says(order: TrainRequest) -> None:
    script(order, "reject It says nothing.")
    prepare(order, data())
    screen = Screen()
    with use_language("ja"):
        assert await run_training(order, data(), screen) == EXIT_REJECTED
    said = screen.text[screen.text.index("┘") :].replace(str(order.out), "").splitlines()[1:]
    assert len(said) > 5
    assert_lines_japanese(said, *CODE, "It", "says", "nothing")


async def test_what_a_run_says_that_does_not_end_well(order: TrainRequest) -> None:
    script(order, "exit 9")
    prepare(order, data())
    with pytest.raises(ChildFailed) as failed:
        await run_training(order, data(), Screen())
    said = failed.value.args[0].translate_to("ja")
    assert_japanese(said.replace(str(order.job_dir), ""), "log", "txt")
    assert SERVING_UNCHANGED.translate_to("ja") == "これまでのモデルがそのまま答えます。"

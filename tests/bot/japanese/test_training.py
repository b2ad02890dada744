"""Teaching, retraining and the reports of a job, as Japanese people read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.cli.train.display import settings_table
from bot.cli.train.request import TrainRequest, prepare
from bot.cli.train.run import EXIT_REJECTED, run_training
from bot.discord_ui.embeds.training.plan import memory_text, plan_card, plan_summary_card
from bot.learning.retraining import Overrides, RetrainPlan
from core.records import JobState
from data.dataset.cleaning import Selection
from i18n.phrase import phrase, serialize_phrase
from i18n.reader import use_language
from model.registry import ModelOption
from tests.bot.cli.test_train import SCRIPTED, Screen, data, script
from tests.bot.conftest import World
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
from tests.bot.japanese.discord import (
    assert_all_japanese,
    assert_japanese,
    assert_lines_japanese,
    english_in,
    shown,
    texts,
)
from training.checkpoints import PACKED_SUMMARY_KEY, PACKED_WRONG_KEY, REPORT_FILE
from training.config import TrainingConfig
from training.errors import ChildFailed
from training.jobs.events import Checking, Lowered, Paused, Saved, Started
from training.jobs.preview import Preview
from training.jobs.queue import JobUpdate

NO_WORDS = ("cpu", "auto", "lora", "teach", "fp")
"""What Japanese people read as it is, too."""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_setting_and_every_doubt_of_a_plan(method: Any) -> None:
    usual = TrainingConfig(name="tiny", base=None, base_name="tiny", min_steps=9, replay=0)
    config = replace(usual, gradient_accumulation=2, loss_on="all", threads=1, max_length=8)
    config = replace(Overrides(1.0, None, method).apply(config), method=method)
    nothing = Preview(Selection((), {}, {}, {}, {}, {}, {}), 1, 2, False, 3, 4.5, None, 9, 1, 9)
    authors = replace(
        nothing.selection, by_author=dict.fromkeys(range(1, 8), 1), rule_counts={"印": 1}
    )
    more = replace(nothing, selection=authors, seconds=75.0, memory_mb=9.0, longest=5)
    with use_language("ja"):
        for preview in (nothing, more):
            plan = RetrainPlan(1, ModelOption("tiny", "", "", "", "", ""), config, preview, None)
            for card in (plan_card(plan, "fp32", {}), plan_summary_card(plan)):
                assert_lines_japanese(texts(card.to_component_dict()), *NO_WORDS)
        assert_lines_japanese([memory_text(9.0, free, method) for free in (None, 10.0)])


# --- a plan and a job in Discord -----------------------------------------------------------------


@pytest.fixture
async def run(world: World) -> Run:
    run = await new_run(world)
    await run.move(JobState.RUNNING)
    return run


async def test_all_that_a_progress_message_says(run: Run) -> None:
    await run.tell(STARTED)
    run.now += EDIT_INTERVAL_S
    await run.tell(step(40), Lowered(4, 2))
    await run.tell(Checking())
    await run.tell(Started(**{**as_fields(STARTED), "resumed_from": 40}), Saved(40), Paused(40))
    await run.move(JobState.PAUSED, phrase("Paused before it began."))
    other = replace(run.job, id=99, state=JobState.QUEUED)
    await run.move(JobState.RUNNING)
    await run.update(JobUpdate(other, None))
    for label in ("一時停止", "中止"):
        await run.storage.jobs.set_state(run.job.id, JobState.FAILED)
        await run.world.ada.click(run.messages[0], label=label)
    assert_all_japanese(run.world)


ANSWERS = {"answers": [{"prompt": "Who?", "before": "", "after": "Me"}]}
WRONG, SUMMARY = phrase("not the taught answer"), phrase("talk as before")
ASKED = {
    "summary": SUMMARY,
    PACKED_SUMMARY_KEY: serialize_phrase(SUMMARY),
    "failures": [
        {"prompt": "Who?", "reply": "", "wrong": WRONG, PACKED_WRONG_KEY: serialize_phrase(WRONG)}
    ]
    * 9,
}


@pytest.mark.parametrize("asked", [ANSWERS, ASKED], ids=["earlier version", "asked"])
@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
async def test_each_end_of_a_job(run: Run, state: JobState, asked: dict[str, Any]) -> None:
    await made(run)
    folder = run.world.home / "checkpoints" / str(run.job.scope) / "tiny-1"
    (folder / REPORT_FILE).write_text(json.dumps(COMPARED | asked), encoding="utf-8")
    await run.move(state, phrase("The training was cancelled."), checkpoint="tiny-1")
    assert run.text == "学習を中止しました。"
    compared = state in (JobState.PROMOTED, JobState.REJECTED)
    assert ("損失（低いほどよい）" in shown(run.world)) == compared
    assert_all_japanese(run.world, "Who", *NO_WORDS)


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
    script(order, "exit 9")
    prepare(order, data())
    with pytest.raises(ChildFailed) as failed:
        await run_training(order, data(), Screen())
    told = failed.value.args[0].translate_to("ja")
    assert_japanese(told.replace(str(order.job_dir), ""), "log", "txt")

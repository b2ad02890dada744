"""The second stage within a run: what it learns, what it leaves alone, how it is interrupted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from core.records import JobState, Message, Role, TrainingJob
from data.dataset.preferences import (
    Preference,
    PreferenceCounts,
    preference_digests,
    write_preferences,
)
from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER
from tests.training.conftest import write_job
from training.checkpoints import read_learned, read_manifest, read_report, sha256
from training.config import TrainingConfig, defaults_for
from training.jobs import outcome
from training.jobs.events import Checking, Event, Finished, Paused, Preferring, Saved, Started, Step
from training.jobs.folder import (
    CONFIG_FILE,
    CONSENT_FILE,
    PREFERENCES_FILE,
    TAUGHT_CONSENT_FILE,
    latest_saved_step,
)
from training.run import train as training
from training.run.gate.sampling import sample_replies
from training.run.loop import Control
from training.run.mixing import STARTER_FILE, read_conversations
from training.run.preferences.replies import measured, tokenize_sides
from training.run.preferences.second_stage import SecondStage
from training.run.preferences.stage import PreferenceStage, StageSettings, balanced_weights
from training.run.train import train

STEPS = 6
TAUGHT_BY: dict[str, int | None] = {"7": 1}
VOTED_BY: dict[str, int | None] = {"9": None}


def tasteful(many: int = 60) -> list[Preference]:
    """Everybody likes one kind of reply and dislikes the other."""
    rows = []
    for n in range(many):
        good, bad = (f"oh yes {n}", None) if n % 2 else (None, f"no way {n}")
        rows.append(Preference(f"may I have number {n}?", good, bad))
    return rows


@pytest.fixture(scope="module")
def config(plain_base: Path) -> TrainingConfig:
    return TrainingConfig(
        name="t-1",
        base=str(plain_base),
        epochs=1,
        min_steps=STEPS,
        precision="fp32",
        learning_rate=5e-3,
        gate=False,
    )


def job_of(folder: Path, config: TrainingConfig, rows: Sequence[Preference]) -> Path:
    counts = PreferenceCounts(votes=len(rows), people=9, rows=len(rows))
    job = write_job(folder, replace(config, preferences=counts))
    write_preferences(rows, job / PREFERENCES_FILE)
    (job / CONSENT_FILE).write_text(json.dumps(TAUGHT_BY | VOTED_BY))
    (job / TAUGHT_CONSENT_FILE).write_text(json.dumps(TAUGHT_BY))
    return job


def weights_of(job: Path) -> dict[str, Any]:
    return dict(AutoModelForCausalLM.from_pretrained(job / "checkpoint").state_dict())


@pytest.fixture(scope="module")
def without_votes(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = write_job(tmp_path_factory.mktemp("plain") / "job", config)
    told: list[Event] = []
    train(job, told.append)
    assert not any(isinstance(one, Preferring) for one in told)
    assert latest_saved_step(job) is None
    return job


def test_votes_are_learned_after_the_last_step(
    config: TrainingConfig, without_votes: Path, tmp_path: Path
) -> None:
    job, told = job_of(tmp_path / "job", config, tasteful()), list[Event]()
    train(job, told.append)
    order = [type(one) for one in told if type(one) in (Step, Preferring, Checking, Finished)]
    assert [one for one in order if one is not Step] == [Preferring, Checking, Finished]
    [begun] = [one for one in told if isinstance(one, Preferring)]
    assert 0 < begun.steps <= STEPS
    report = read_report(job / "checkpoint")
    assert report is not None
    assert report.votes == "I learned from 60 votes of 9 people."
    manifest = read_manifest(job / "checkpoint")
    assert manifest.preferences_sha256 == sha256(job / PREFERENCES_FILE)
    assert manifest.consent == TAUGHT_BY | VOTED_BY
    judged = read_learned(job / "checkpoint").judged
    assert len(judged) == 40, "but for the held-out third"
    assert judged < set(preference_digests(tasteful()))
    before, after = weights_of(without_votes), weights_of(job)
    assert any(not torch.equal(one, after[name]) for name, one in before.items())


def test_votes_at_random_leave_the_model_as_it_was(
    config: TrainingConfig, without_votes: Path, tmp_path: Path
) -> None:
    rng = Random(1)
    rows = [
        Preference(one.user, *rng.choice([(text, None), (None, text)]))
        for one in tasteful()
        if (text := one.good or one.bad)
    ]
    job = job_of(tmp_path / "job", config, rows)
    train(job, lambda _: None)
    report = read_report(job / "checkpoint")
    assert report is not None
    assert report.votes == (
        "The votes changed nothing: on votes that it had not seen, it guessed no better than "
        "by chance."
    )
    manifest = read_manifest(job / "checkpoint")
    assert (manifest.preferences_sha256, manifest.consent) == ("", TAUGHT_BY)
    assert read_learned(job / "checkpoint").judged == frozenset()
    assert not (job / PREFERENCES_FILE).exists()
    before, after = weights_of(without_votes), weights_of(job)
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_a_pause_in_the_second_stage_repeats_it_only(
    config: TrainingConfig, tmp_path: Path
) -> None:
    """Also where the last step is not that of an epoch: it is not followed by another one."""
    steps = 5
    config = replace(config, batch_size=1, min_steps=steps)
    whole, halted = (job_of(tmp_path / name, config, tasteful()) for name in ("whole", "halted"))
    train(whole, lambda _: None)
    told: list[Event] = []
    control = Control()

    def pause_there(event: Event) -> None:
        told.append(event)
        if isinstance(event, Preferring):
            control.receive("pause")

    train(halted, pause_there, control)
    assert told[-1] == Paused(steps)
    assert not (halted / "checkpoint").exists()
    saved = latest_saved_step(halted)
    assert saved is not None
    assert saved.step == steps
    rest: list[Event] = []
    train(halted, rest.append)
    assert not any(isinstance(one, Step | Saved) for one in rest)
    [started] = [one for one in rest if isinstance(one, Started)]
    assert started.resumed_from == steps
    assert isinstance(rest[-1], Finished)
    one, other = weights_of(whole), weights_of(halted)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert latest_saved_step(halted) is None


def test_without_the_memory_for_it_the_model_is_that_of_the_first_stage(
    config: TrainingConfig, without_votes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = PreferenceStage._step

    def too_large_at_last(stage: PreferenceStage, rows: Sequence[Any]) -> float:
        if len(stage.losses) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(stage, rows)

    monkeypatch.setattr(PreferenceStage, "_step", too_large_at_last)
    job = job_of(tmp_path / "job", config, tasteful())
    train(job, lambda _: None)
    assert_without_votes(job, without_votes)


def assert_without_votes(job: Path, without_votes: Path) -> None:
    report = read_report(job / "checkpoint")
    assert report is not None
    assert report.votes == (
        "The votes changed nothing: there was not enough memory to learn from them."
    )
    before, after = weights_of(without_votes), weights_of(job)
    assert all(torch.equal(one, after[name]) for name, one in before.items())


@pytest.mark.parametrize("last", [Preferring(STEPS), Checking()])
def test_after_a_kill_in_the_second_stage_it_is_left_out(
    config: TrainingConfig, without_votes: Path, tmp_path: Path, last: Event
) -> None:
    job, told = job_of(tmp_path / "job", config, tasteful()), list[Event]()
    running = TrainingJob(1, 2, 3, 4, "t", str(job), JobState.RUNNING, datetime.now(UTC))
    job_at_last = replace(running, attempts=outcome.MAX_ATTEMPTS)
    killed = partial(outcome.without_checkpoint, job_at_last, last, outcome.SIGKILL_STATUS)
    assert killed(pausing=False) == outcome.REQUEUED
    assert TrainingConfig.load(job / CONFIG_FILE).batch_size == config.batch_size
    assert killed(pausing=False).state is JobState.INTERRUPTED, "it did not help"
    train(job, told.append)
    assert not any(isinstance(one, Preferring) for one in told)
    assert_without_votes(job, without_votes)


def test_an_ordinary_retrain_is_not_expected_to_take_what_votes_and_waiting_took(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on a tenth of a second at each look, and an hour whenever the run is
    held."""
    looks, late = count(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: next(looks) / 10 + late[0])

    def wait(*_: object) -> float:
        late[0] += 3600
        return 3600.0

    monkeypatch.setattr(Control, "wait_while_held", wait)
    job = job_of(tmp_path / "job", config, tasteful())
    train(job, lambda _: None)
    manifest = read_manifest(job / "checkpoint")
    assert 0 < manifest.overhead_s < 3600
    assert manifest.seconds > 3600 * (STEPS + 1)


def test_likes_and_dislikes_weigh_the_same_in_all() -> None:
    rows = [Preference("a", "b", None)] * 3 + [
        Preference("a", None, "c"),
        Preference("a", "b", "c"),
    ]
    assert balanced_weights(rows) == pytest.approx([2 / 3] * 3 + [2.0, 1.0])
    assert balanced_weights(rows[:3]) == [1.0] * 3, "there is nothing to balance"


def test_the_stage_never_takes_more_steps_or_rows_than_the_first(config: TrainingConfig) -> None:
    """Each judged reply is seen six times, four of them in a step with four others."""
    for judged, supervised, steps in ((1, 1, 1), (40, 3, 3), (40, 1000, 60), (5000, 200, 200)):
        assert StageSettings.of(config, judged, supervised).steps == steps


def stage_of(config: TrainingConfig, rows: Sequence[Preference]) -> PreferenceStage:
    model, tokenizer = training.prepare_model(config, [])
    taught, talk = ([from_pair(said, "I am a bot.")] for said in ("who are you?", "hello"))
    settings = StageSettings.of(config, len(rows), STEPS)
    return PreferenceStage(model, tokenizer, rows, taught, talk, settings)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_small_batches_show_what_must_stay_too(config: TrainingConfig, batch_size: int) -> None:
    stage = stage_of(replace(config, batch_size=batch_size), tasteful(8))
    shown = [stage._draw_kept() for _ in range(4)]
    assert [len(one) for one in shown] == [1] * 4
    assert [one.tokens for [one] in shown] == [stage._taught[0].tokens, stage._talk[0].tokens] * 2


def test_what_is_judged_and_what_must_stay_are_not_in_memory_at_once(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients of the first are there before the second is computed."""
    stage, kept_loss = stage_of(config, tasteful(8)), PreferenceStage._kept_loss
    has_gradients: list[bool] = []

    def seen(self: PreferenceStage, kept: Sequence[Any]) -> torch.Tensor:
        has_gradients.append(any(one.grad is not None for one in self._model.parameters()))
        return kept_loss(self, kept)

    monkeypatch.setattr(PreferenceStage, "_kept_loss", seen)
    assert stage.run(Control())
    assert set(has_gradients) == {True}


def test_the_drift_is_measured_behind_other_questions(config: TrainingConfig) -> None:
    rows = [Preference(user, said, None) for user in "abc" for said in ("yes", "no")]
    stage = stage_of(config, rows)
    assert all(one.mismatched != one.voted for one in stage._judged)


def test_better_answers_gain_on_what_they_replace_and_the_reference_stays(
    config: TrainingConfig,
) -> None:
    model, tokenizer = training.prepare_model(config, [])
    rows = [Preference(f"say {n}", f"oh yes {n}", f"no way {n}") for n in range(8)]
    sides = [one for row in tokenize_sides(tokenizer, rows, 64) for one in row if one]

    def lead() -> float:
        found = [float(one.sum()) for one in measured(model, sides, tokenizer.eos_token_id)]
        return sum(found[::2]) - sum(found[1::2])

    taught = [from_pair("who are you?", "I am a bot.")]
    settings = StageSettings.of(config, len(rows), 12)
    stage = PreferenceStage(model, tokenizer, rows, taught, taught, settings)
    reference, before = [replace(one) for one in stage._judged], lead()
    assert stage.run(Control())
    assert stage._judged == reference
    assert lead() > before + 1


ASKS_BACK = re.compile(r"\?\s*$")


@pytest.mark.slow
def test_tiny_learns_a_taste_in_a_few_steps() -> None:
    """Replies of `tiny`, of which those that ask back are liked: on other messages it asks more."""
    texts = list(dict.fromkeys(one[0].content for one in read_conversations(STARTER_FILE)))
    Random(0).shuffle(texts)
    asked, others = texts[:150], texts[150:250]
    usual = defaults_for("tiny", str(EMBEDDED_FOLDER), 10)
    model, tokenizer = training.prepare_model(usual, [])
    training.with_lora(model, usual.lora_rank, usual.lora_targets)

    def replies(messages: Sequence[str]) -> list[str]:
        talks = [[Message(Role.USER, one)] for one in messages]
        return [one.text for one in sample_replies(model, tokenizer, talks)]

    def share() -> float:
        return sum(bool(ASKS_BACK.search(one)) for one in replies(others)) / len(others)

    rows = [
        Preference(text, *((said, None) if ASKS_BACK.search(said) else (None, said)))
        for text, said in zip(asked, replies(asked), strict=True)
    ]
    before = share()
    stage = SecondStage(model, tokenizer, replace(usual, preferences=None), rows, [], 40)
    assert stage.run(Control())
    assert stage.reason is None
    assert share() >= before + 0.05  # how much it is depends on how the processor rounds

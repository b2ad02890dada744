"""The second stage within a run: what it learns, what it leaves alone, how it is interrupted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from core.records import Message, Role
from data.dataset.preferences import Preference, PreferenceCounts, write_preferences
from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER
from tests.training.conftest import write_job
from training.checkpoints import read_manifest, read_report, sha256
from training.config import TrainingConfig, defaults_for
from training.jobs.events import Checking, Event, Finished, Paused, Preferring, Started, Step
from training.jobs.folder import PREFERENCES_FILE, latest_saved_step
from training.run import train as training
from training.run.gate.sampling import sample_replies
from training.run.loop import Control
from training.run.mixing import STARTER_FILE, read_conversations
from training.run.preferences import second_stage
from training.run.preferences.replies import measured, tokenize_sides
from training.run.preferences.second_stage import SecondStage
from training.run.preferences.stage import PreferenceStage, StageSettings, balanced_weights
from training.run.train import train

STEPS = 6


def tasteful(count: int = 60) -> list[Preference]:
    """Everybody likes one kind of reply and dislikes the other."""
    rows = []
    for n in range(count):
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
    assert read_manifest(job / "checkpoint").preferences_sha256 == sha256(job / PREFERENCES_FILE)
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
    before, after = weights_of(without_votes), weights_of(job)
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_a_pause_in_the_second_stage_repeats_it_only(
    config: TrainingConfig, tmp_path: Path
) -> None:
    whole, halted = (job_of(tmp_path / name, config, tasteful()) for name in ("whole", "halted"))
    train(whole, lambda _: None)
    told: list[Event] = []
    control = Control()

    def pause_there(event: Event) -> None:
        told.append(event)
        if isinstance(event, Preferring):
            control.receive("pause")

    train(halted, pause_there, control)
    assert told[-1] == Paused(STEPS)
    assert not (halted / "checkpoint").exists()
    saved = latest_saved_step(halted)
    assert saved is not None
    assert saved.step == STEPS
    rest: list[Event] = []
    train(halted, rest.append)
    assert not any(isinstance(one, Step) for one in rest)
    [started] = [one for one in rest if isinstance(one, Started)]
    assert started.resumed_from == STEPS
    assert isinstance(rest[-1], Finished)
    one, other = weights_of(whole), weights_of(halted)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert latest_saved_step(halted) is None


def test_without_the_memory_for_it_the_model_is_that_of_the_first_stage(
    config: TrainingConfig, without_votes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(second_stage.PreferenceStage, "run", too_large)
    job = job_of(tmp_path / "job", config, tasteful())
    train(job, lambda _: None)
    report = read_report(job / "checkpoint")
    assert report is not None
    assert report.votes == (
        "The votes changed nothing: there was not enough memory to learn from them."
    )
    before, after = weights_of(without_votes), weights_of(job)
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_likes_and_dislikes_weigh_the_same_in_all() -> None:
    rows = [Preference("a", "b", None)] * 3 + [
        Preference("a", None, "c"),
        Preference("a", "b", "c"),
    ]
    assert balanced_weights(rows) == pytest.approx([2 / 3] * 3 + [2.0, 1.0])
    assert balanced_weights(rows[:3]) == [1.0] * 3, "there is nothing to balance"


def test_the_stage_never_takes_more_steps_or_rows_than_the_first(config: TrainingConfig) -> None:
    for judged, supervised in ((1, 1), (40, 3), (40, 1000), (5000, 200)):
        settings = StageSettings.of(config, judged, supervised)
        assert 1 <= settings.steps <= supervised
        assert settings.rows == config.batch_size


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
    assert share() >= before + 0.15

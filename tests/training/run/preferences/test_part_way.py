"""Where the checks refuse what the second stage made of a model, it goes part of the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.dataset.preferences import PreferenceCounts
from i18n.phrase import phrase
from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER
from tests.training.run.preferences.test_second_stage import tasteful
from training.config import TrainingConfig, defaults_for
from training.run.base_model import prepare_model
from training.run.gate.evaluation import EvaluationReport
from training.run.loop import Control
from training.run.preferences.second_stage import (
    SHARES,
    Evaluation,
    SecondStage,
    facts_as_asked,
)

STEPS = 12
REFUSED = "the model would know 9 taught answers instead of 10."


@pytest.fixture(scope="module")
def config(plain_base: Path) -> TrainingConfig:
    return TrainingConfig(
        name="t-1",
        base=str(plain_base),
        precision="fp32",
        learning_rate=5e-3,
        preferences=PreferenceCounts(votes=60, people=9, rows=60),
    )


class Checks:
    """Checks of a stage's model, by how far it is on the way from the beginning to what the stage
    made of it: up to `allowed` of that, it knows all ten facts."""

    def __init__(self, stage: SecondStage, allowed: float) -> None:
        self._stage = stage
        self._start = stage.weights()
        self._allowed = allowed
        self._whole = 0.0
        self.asked: list[float] = []
        """The shares that were checked, in this order."""

    def note_end(self) -> None:
        """The stage has learned."""
        self._whole = self._distance()

    def _distance(self) -> float:
        now = self._stage.weights()
        return sum(float((now[name] - one).norm()) for name, one in self._start.items())

    def evaluate(self) -> Evaluation:
        share = self._distance() / self._whole
        self.asked.append(round(share, 3))
        return EvaluationReport(known=10 if share <= self._allowed + 1e-3 else 9), {"share": share}


def learned(config: TrainingConfig, allowed: float) -> tuple[SecondStage, Checks]:
    """A stage that followed a taste, and its checks."""
    model, tokenizer = prepare_model(config, [])
    stage = SecondStage(model, tokenizer, config, tasteful(), [], STEPS)
    checks = Checks(stage, allowed)
    assert stage.run(Control())
    assert stage.reason is None
    checks.note_end()
    return stage, checks


@pytest.mark.parametrize("allowed", SHARES)
def test_it_goes_as_far_as_the_checks_allow(config: TrainingConfig, allowed: float) -> None:
    stage, checks = learned(config, allowed)
    start, end = checks._start, stage.weights()
    report, scores = stage.choose(checks.evaluate)
    tried = [share for share in SHARES if share >= allowed]
    assert checks.asked == [0.0, *tried]
    assert scores["share"] == pytest.approx(allowed, abs=1e-3)
    found = stage.weights()
    for name, one in found.items():
        assert torch.allclose(one, torch.lerp(start[name], end[name], allowed), atol=1e-6)
    sentence = "I learned from 60 votes of 9 people."
    if allowed < 1:
        whole = f"{100 * allowed:.0f} % of the change was kept, since with all of it {REFUSED}"
        sentence = f"{sentence} {whole}"
    assert report.votes == sentence
    assert len(stage.learned) == 40


def test_where_the_checks_refuse_every_part_the_model_is_as_before(config: TrainingConfig) -> None:
    stage, checks = learned(config, allowed=0.1)
    report, _ = stage.choose(checks.evaluate)
    assert checks.asked == [0.0, *SHARES]
    assert report.votes == f"The votes changed nothing: {REFUSED}"
    assert stage.learned == []
    after = stage.weights()
    assert all(torch.equal(one, after[name]) for name, one in checks._start.items())


def test_what_is_refused_without_the_votes_is_not_tried_part_by_part(
    config: TrainingConfig,
) -> None:
    stage, checks = learned(config, allowed=1.0)

    def evaluate() -> Evaluation:
        return replace(checks.evaluate()[0], refusal=phrase("No.")), {}

    report, _ = stage.choose(evaluate)
    assert checks.asked == [0.0, 1.0]
    assert report.votes == (
        "The votes changed nothing: the model did not pass its checks afterwards: No."
    )


def test_no_part_is_kept_that_follows_the_votes_by_chance_only(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, checks = learned(config, allowed=SHARES[-1])
    monkeypatch.setattr("training.run.preferences.second_stage.MAX_CHANCE", 0.0)
    report, _ = stage.choose(checks.evaluate)
    assert checks.asked == [0.0, 1.0]
    assert report.votes == f"The votes changed nothing: {REFUSED}"
    after = stage.weights()
    assert all(torch.equal(one, after[name]) for name, one in checks._start.items())


def test_the_time_of_the_checks_that_any_run_takes_is_not_the_stages(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that each check moves on by an hour."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stage, checks = learned(config, allowed=0.5)

    def evaluate() -> Evaluation:
        now[0] += 3600
        return checks.evaluate()

    stage.choose(evaluate)
    assert stage.seconds == 3600 * len(SHARES)


def test_facts_are_kept_as_people_ask_for_them() -> None:
    """Word for word, carelessly and amid other talk, each with its answer."""
    pairs = [("Where do I read the rules, please?", "In #rules."), ("Who is Ada?", "The admin.")]
    taught = [from_pair(*one) for one in pairs]
    config = defaults_for("tiny", str(EMBEDDED_FOLDER), len(pairs))
    assert config.recipe == "facts"
    asked = facts_as_asked(config, taught, japanese=False)
    assert {one[-1].content for one in asked} == {answer for _, answer in pairs}
    questions = {one[-2].content for one in asked}
    assert {"Who is Ada?", "who is ada"} <= questions
    assert {len(one) for one in asked} >= {2, 4}
    assert facts_as_asked(config, [], japanese=False) == []
    talk = defaults_for("tiny", str(EMBEDDED_FOLDER), 1000)
    assert facts_as_asked(talk, taught, japanese=False) == taught

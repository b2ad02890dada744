"""Who votes against all others is noticed, and who does not is not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from data.dataset.preferences import Preference, PreferenceCounts
from i18n.phrase import Phrase
from training.config import TrainingConfig
from training.run import train as training
from training.run.gate.evaluation import EvaluationReport
from training.run.loop import Control
from training.run.preferences.second_stage import BY_CHANCE, SecondStage
from training.run.preferences.stage import PreferenceStage
from training.run.preferences.voters import AGAINST, against, agreement, halves, without

VOTERS, VOTES = 8, 18
STEPS = 40


def votes(hostile: Collection[int] = (), voters: int = VOTERS) -> list[Preference]:
    """All like one kind of reply and dislike the other, but for the hostile ones."""
    rows = []
    for n in range(voters * VOTES):
        voter, is_kind = n % voters, n // voters % 2 == 0
        said = f"oh yes {n}" if is_kind else f"no way {n}"
        liked = is_kind is not (voter in hostile)
        sides = (said, None) if liked else (None, said)
        rows.append(Preference(f"may I have number {n}?", *sides, voters=(voter,)))
    return rows


@pytest.fixture(scope="module")
def config(plain_base: Path) -> TrainingConfig:
    return TrainingConfig(
        name="t-1",
        base=str(plain_base),
        precision="fp32",
        learning_rate=5e-3,
        preferences=PreferenceCounts(votes=VOTERS * VOTES, people=VOTERS, rows=VOTERS * VOTES),
    )


def stage_of(config: TrainingConfig, rows: list[Preference]) -> SecondStage:
    model, tokenizer = training.prepare_model(config, [])
    return SecondStage(model, tokenizer, config, rows, [], STEPS)


def sentence_of(stage: SecondStage) -> Phrase | None:
    report = EvaluationReport()
    return stage.choose(lambda: (report, {}))[0].votes


def test_where_nobody_agrees_the_stage_ends_before_it_learned(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One half says the opposite of what the other half says."""
    runs, run = [], PreferenceStage.run

    def counted(stage: PreferenceStage, control: Control) -> bool:
        runs.append(stage)
        return run(stage, control)

    monkeypatch.setattr(PreferenceStage, "run", counted)
    one_half = halves(range(VOTERS), config.seed)[0]
    stage = stage_of(config, votes(one_half))
    before = stage.weights()
    assert stage.run(Control())
    assert stage.reason == BY_CHANCE
    assert len(runs) == 2, "of the halves"
    after = stage.weights()
    assert all(torch.equal(one, after[name]) for name, one in before.items())


@pytest.mark.parametrize("hostile", [(), (3,), (6,)])
def test_a_hostile_voter_does_not_count_and_honest_ones_do(
    config: TrainingConfig, hostile: tuple[int, ...]
) -> None:
    rows = votes(hostile)
    stage = stage_of(config, rows)
    assert stage.run(Control())
    assert stage.reason is None
    left = {who for one in stage.learned for who in one.voters}
    assert left == set(range(VOTERS)) - set(hostile)
    assert all(one in rows for one in stage.learned)
    told = "I learned from 144 votes of 8 people."
    if hostile:
        told += " The votes of 1 person went against all others and did not count."
    assert sentence_of(stage) == told


def test_the_stage_begins_where_it_would_without_the_search(config: TrainingConfig) -> None:
    """Nothing is left in the model of what the halves taught it."""
    rows = votes()
    anonymous = [replace(one, voters=()) for one in rows]
    one, other = stage_of(config, rows), stage_of(config, anonymous)
    assert one.run(Control())
    assert other.run(Control())
    assert one.reason is None
    found, expected = one.weights(), other.weights()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_pause_in_the_search_leaves_the_model_as_it_was(config: TrainingConfig) -> None:
    stage, control = stage_of(config, votes()), Control()
    before = stage.weights()
    control.receive("pause")
    assert not stage.run(control)
    after = stage.weights()
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_of_three_voters_everybody_counts(config: TrainingConfig) -> None:
    rows = votes((2,), voters=3)
    stage = stage_of(config, rows)
    assert stage.run(Control())
    assert {who for one in stage._learned for who in one.voters} == {0, 1, 2}


def test_agreement_counts_standard_errors_of_chance() -> None:
    rng = Random(1)
    liked = [n % 2 == 0 for n in range(14)]
    by_chance = [agreement([rng.gauss(0, 3) for _ in liked], liked) for _ in range(400)]
    found = torch.tensor([one for one in by_chance if one is not None])
    assert abs(float(found.mean())) < 0.15
    assert 0.85 < float(found.std()) < 1.15
    value = agreement([3.0, 2.0, -1.0, -4.0], [False, False, True, True])
    assert value is not None
    assert value < AGAINST
    assert agreement([1.0, 2.0], [True, True]) is None


def test_at_most_a_quarter_is_left_out_the_clearest_first() -> None:
    found = {0: -2.0, 1: -3.0, 2: -1.5, 3: 2.0, 4: 0.0, 5: -0.5, 6: 1.0, 7: 1.0}
    assert against(found, 8) == {0, 1}
    assert against(found, 7) == {1}
    assert against({0: float("nan"), 1: 0.1}, 8) == set()


def test_what_somebody_else_agrees_with_still_counts() -> None:
    rows = [
        Preference("a", "b", None, voters=(0,)),
        Preference("c", "d", None, voters=(0, 1)),
        Preference("e", "f", "g"),
    ]
    assert without(rows, frozenset({0})) == rows[1:]
    assert without(rows, frozenset()) == rows


def test_halves_have_everybody_once() -> None:
    one, other = halves(range(9), 5)
    assert sorted([*one, *other]) == list(range(9))
    assert {len(one), len(other)} == {4, 5}

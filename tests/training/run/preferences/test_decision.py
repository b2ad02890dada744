"""Whether votes are followed: by chance hardly ever, for a taste nearly always."""

from __future__ import annotations

import math
from random import Random

import pytest

from data.dataset.preferences import Preference
from i18n.phrase import phrase
from training.run.gate.evaluation import EvaluationReport
from training.run.preferences.decision import MAX_CHANCE, chance, refusal, split

GENERAL = {"general": {"new": 4.0}}


def test_random_votes_pass_about_as_rarely_as_promised() -> None:
    rng = Random(1)
    found = []
    for seed in range(80):
        ratios = [rng.gauss(0, 3) for _ in range(40)]
        found.append(chance(ratios, [rng.choice((-1.5, -1, 1, 2)) for _ in ratios], [], seed))
    assert sum(one <= MAX_CHANCE for one in found) <= 4  # 0.8 are expected
    assert 0.4 < sum(found) / len(found) < 0.6, "it should be uniform"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_taste_is_told_from_its_opposite(sign: int) -> None:
    rng = Random(2)
    opinions = [1.0 if n % 2 else -1.0 for n in range(40)]
    ratios = [sign * one + rng.gauss(0, 1) for one in opinions]
    assert (chance(ratios, opinions, [], 0) <= MAX_CHANCE) is (sign > 0)
    assert (chance([], [], [sign * 1.0] * 10, 0) <= MAX_CHANCE) is (sign > 0)


def test_votes_that_are_all_alike_prove_nothing() -> None:
    assert chance([1.0, 2.0, 3.0] * 9, [1.0] * 27, [], 0) == 1.0


def test_a_model_that_is_broken_proves_nothing() -> None:
    assert chance([math.nan, 1.0], [1.0, -1.0], [], 0) == 1.0


def test_many_votes_of_little_weight_do_not_outvote_a_few() -> None:
    """One who insists and ten who agree: the test follows the weights, as the stage does."""
    rng = Random(3)
    opinions = [n % 2 * 2 - 1.0 for n in range(30)] + [0.05 * (n % 2 * 2 - 1) for n in range(60)]
    ratios = [one / abs(one) * (1 if n < 30 else -1) for n, one in enumerate(opinions)]
    ratios = [one + rng.gauss(0, 0.5) for one in ratios]
    assert chance(ratios, opinions, [], 0) <= MAX_CHANCE


def test_held_out_are_whole_questions_the_same_for_a_seed() -> None:
    rows = [Preference(f"question {n % 30}", f"reply {n}", None) for n in range(90)]
    learned, held_out = split(rows, 3)
    assert (len(learned), len(held_out)) == (60, 30)
    assert not {one.user for one in learned} & {one.user for one in held_out}
    assert split(rows, 3) == (learned, held_out)
    assert split(rows, 4) != (learned, held_out)


def test_the_checks_of_both_models_decide() -> None:
    before = EvaluationReport(losses=GENERAL, known=9)
    rise = {"general": {"new": 4.3}}
    for after, why in (
        (before, None),
        (EvaluationReport(losses=GENERAL, known=8), "would know 8 taught answers instead of 9"),
        (EvaluationReport(losses=rise, known=9), "held-out loss 4.30 instead of 4.00"),
        (EvaluationReport(losses=GENERAL, known=9, refusal=phrase("No.")), "its checks"),
    ):
        found = refusal(before, after)
        assert (found is None) is (why is None)
        assert why is None or why in str(found)

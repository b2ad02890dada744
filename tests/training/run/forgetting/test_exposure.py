"""Exposure and its limits, against ranks counted by hand."""

from __future__ import annotations

import math

import pytest

from training.run.forgetting.exposure import (
    CHANCE,
    chance_limit,
    exposure_bits,
    rank_of,
    upper_limit,
)


def test_a_rank_counted_by_hand() -> None:
    others = [-0.5, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0]  # one of seven is likelier than -1
    assert rank_of(-1.0, others) == 2
    assert exposure_bits(2, 8) == 2.0  # log2 8 - log2 2
    assert exposure_bits(rank_of(0.0, others), 8) == 3.0
    assert exposure_bits(rank_of(-8.0, others), 8) == 0.0


def test_of_equal_likelihoods_the_answer_comes_first() -> None:
    assert rank_of(-1.0, [-1.0, -1.0]) == 1


@pytest.mark.parametrize("lessons", [1, 20])
def test_chance_exceeds_the_limit_as_seldom_as_it_says(lessons: int) -> None:
    """Each rank of 512 is equally likely: those with more bits are counted."""
    beyond = sum(exposure_bits(rank, 512) > chance_limit(lessons) for rank in range(1, 513))
    assert beyond > 0
    assert lessons * beyond / 512 <= CHANCE


def test_the_interval_of_an_exposure_is_that_of_drawing_again() -> None:
    """64 of 511 are ahead: their number varies by the root of 511 * 1/8 * 7/8, some 7.5."""
    upper = upper_limit(65, 512)
    ahead = 64 - 1.96 * math.sqrt(511 * 64 / 511 * (1 - 64 / 511))
    assert upper == pytest.approx(exposure_bits(1 + round(ahead), 512), abs=0.05)
    assert upper_limit(1, 512) == 9.0  # nothing was ahead, and never is

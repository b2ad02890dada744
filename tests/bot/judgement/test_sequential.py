"""The tests of duels and canaries keep their promises, looked at after each vote or reply."""

from __future__ import annotations

import math

import pytest

from benchmarks.judgement import duels
from bot.judgement.sequential import (
    ALPHA,
    MAX_VOTES,
    MAX_VOTES_OF_MEMBER,
    PREFERRED,
    counted_votes,
    judge,
    log_alike,
    log_preference,
)
from core.records import Choice, DuelOutcome

A, B, ALIKE = Choice


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_evidence_of_a_preference_has_a_mean_of_one_without_one(n: int) -> None:
    """The property that Ville's inequality needs, by counting all sequences."""
    mean = sum(math.comb(n, a) * math.exp(log_preference(a, n - a)) for a in range(n + 1)) / 2**n
    assert mean == pytest.approx(1.0)


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_the_evidence_of_no_difference_has_a_mean_of_one_where_there_is_one(ties: float) -> None:
    """One vote, whose mean score is PREFERRED."""
    won = PREFERRED - ties / 2
    shares = {(1, 0, 0): won, (0, 1, 0): 1 - won - ties, (0, 0, 1): ties}
    mean = sum(share * math.exp(log_alike(*vote)) for vote, share in shares.items())
    assert mean == pytest.approx(1.0)


def test_the_duels_of_the_benchmark_reach_what_is_promised() -> None:
    result = duels.measure(1000, seed=0)
    assert result["aa_decided"] <= ALPHA
    assert result["votes_to_decide"] <= 80


def test_unanimous_votes_decide_for_their_model_and_ties_for_none() -> None:
    def first(kind: Choice) -> tuple[int, DuelOutcome]:
        votes: list[Choice] = []
        while (outcome := judge(votes)) is None:
            votes.append(kind)
        return len(votes), outcome

    assert first(A) == (15, DuelOutcome.A)
    assert first(B) == (15, DuelOutcome.B)
    assert first(ALIKE) == (32, DuelOutcome.ALIKE)


def test_it_ends_where_no_number_of_votes_tells() -> None:
    a = round(0.573 * MAX_VOTES)  # between "no preference" and one that matters
    votes = [A] * a + [B] * (MAX_VOTES - a)
    assert judge(votes) is DuelOutcome.UNDECIDED
    assert judge(votes[:-1]) is None


def test_two_members_alone_decide_nothing_however_often_they_vote() -> None:
    votes = [(member, A) for _ in range(50) for member in (1, 2)]
    assert len(counted_votes(votes)) == 2 * MAX_VOTES_OF_MEMBER
    assert judge(counted_votes(votes)) is None
    assert judge(counted_votes([*votes, (3, A)])) is DuelOutcome.A

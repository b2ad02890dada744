"""Simulated duels, judged after each vote as the bot does it."""

from __future__ import annotations

import random
import statistics
from itertools import count
from typing import Any

from bot.judgement.sequential import PREFERRED, judge
from core.records import Choice, DuelOutcome


def measure(runs: int, seed: int) -> dict[str, Any]:
    """`aa_decided`: the share of duels of a model with itself that are decided for one side;
    `votes_to_decide`: the median of the votes until one is decided for the model that is preferred
    in PREFERRED of the votes; `power`: the share of those that are."""
    chance = random.Random(seed)
    same = [run(0.5, chance) for _ in range(runs)]
    unlike = [run(PREFERRED, chance) for _ in range(runs)]
    decided = [votes for votes, outcome in unlike if outcome is DuelOutcome.A]
    winners = (DuelOutcome.A, DuelOutcome.B)
    return {
        "aa_decided": sum(outcome in winners for _, outcome in same) / runs,
        "votes_to_decide": statistics.median(decided),
        "power": len(decided) / runs,
    }


def run(preferred: float, chance: random.Random) -> tuple[int, DuelOutcome]:
    """The number of votes and the outcome of a duel, whose model A wins votes with a
    probability."""
    votes: list[Choice] = []
    for votes_so_far in count(1):
        votes.append(Choice.A if chance.random() < preferred else Choice.B)
        if (outcome := judge(votes)) is not None:
            return votes_so_far, outcome
    raise AssertionError("a duel ends after MAX_VOTES at the latest")

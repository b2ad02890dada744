"""Sequential tests of a duel and of a canary, valid however often one looks.

Each is an e-process: a product of bets against the hypothesis, with a mean of at most 1 at any
time if the hypothesis holds. By Ville's inequality it then ever reaches 1/alpha with a probability
of at most alpha, so one may look after each vote and stop when one likes (Ramdas et al. 2023,
"Game-theoretic statistics and safe anytime-valid inference", arXiv:2210.01948). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from functools import cache

from core.records import Choice, DuelOutcome

ALPHA = 0.05
"""The probability with which a duel of two equal models is decided for one of them."""
PREFERRED = 0.65
"""The share of votes, a tie being half of one, from which on a preference matters."""
MAX_VOTES = 400
"""Votes after which a duel ends in any case: more would seldom tell what these do not."""
MAX_VOTES_OF_MEMBER = 7
"""Votes of one member that count. Two who always agree have 14, one fewer than the least that can
decide: so no duel is decided by fewer than three members."""


def counted_votes(votes: Iterable[tuple[int, Choice]]) -> list[Choice]:
    """The votes that count, of (member, choice) in the order in which they were given. Whether one
    counts is known before it is given, so leaving some out keeps the test valid."""
    given: dict[int, int] = {}
    counted = []
    for member, choice in votes:
        given[member] = given.get(member, 0) + 1
        if given[member] <= MAX_VOTES_OF_MEMBER:
            counted.append(choice)
    return counted


def judge(votes: Sequence[Choice]) -> DuelOutcome | None:
    """The verdict on the counted votes of a duel so far; None: it goes on."""
    a, b, ties = (votes.count(kind) for kind in Choice)
    if log_preference(a, b) >= -math.log(ALPHA):
        return DuelOutcome.A if a > b else DuelOutcome.B
    if log_alike(max(a, b), min(a, b), ties) >= -math.log(ALPHA):
        return DuelOutcome.ALIKE
    return DuelOutcome.UNDECIDED if len(votes) >= MAX_VOTES else None


def log_preference(a: int, b: int) -> float:
    """The logarithm of the evidence against "neither is preferred", whose shares are 1/2: the
    likelihood ratio to a mixture (Robbins 1970) of PREFERRED and its mirror image. Ties are no
    evidence. Where the same model wrote both answers, the random order alone makes a vote a toss of
    a coin, whoever votes and why."""
    return _log_mean((_log_ratio(a, b), _log_ratio(b, a)))


def _log_ratio(won: int, lost: int) -> float:
    return won * math.log(2 * PREFERRED) + lost * math.log(2 * (1 - PREFERRED))


def log_alike(won: int, lost: int, ties: int) -> float:
    """The logarithm of the evidence against "whoever won more is preferred by PREFERRED or more".

    For scores X (1, 0, and 1/2 for a tie), it is the product of 1 + bet * (PREFERRED - X), with the
    bet that is best where the mean of X is 1/2 (Waudby-Smith & Ramdas 2024, arXiv:2010.09686). The
    other side has more evidence against it, so this is the smaller of both, and testing each of
    them at ALPHA is enough to reject both (Berger 1982)."""
    bet = (2 * PREFERRED - 1) / (2 * PREFERRED * (1 - PREFERRED))
    return sum(
        count * math.log(1 + bet * (PREFERRED - score))
        for count, score in ((won, 1.0), (lost, 0.0), (ties, 0.5))
    )


# --- the canary ----------------------------------------------------------------------------------

BASE_ALPHA, CANARY_ALPHA = 0.005, 0.015
"""The probabilities of an error: that the old model's rate is above its bound, and that a rate up
to the bound is taken for a higher one. Together a good model is taken back in at most 2 %."""
CANARY_REPLIES = 100
"""Replies after which a canary that was not taken back is promoted."""
_STEPS = (0.2, 0.4, 0.7)
"""The rates that are bet on, as shares of the way from the bound to 1."""


def is_worse(bad: int, replies: int, bound: float) -> bool:
    """Whether `bad` of a new model's replies are more than a rate of `bound` explains.

    The evidence is the likelihood ratio to a mixture of higher rates. It grows with `bad`, so a
    thumb that comes later than a look makes that look only more careful."""
    if bound >= 1.0:
        return False
    good = replies - bad
    evidence = _log_mean(
        [
            bad * math.log(rate / bound) + good * math.log((1 - rate) / (1 - bound))
            for rate in (bound + step * (1 - bound) for step in _STEPS)
        ]
    )
    return evidence >= -math.log(CANARY_ALPHA)


@cache
def upper_bound(bad: int, replies: int) -> float:
    """The rate that the old model's is below, but for a probability of BASE_ALPHA: the exact limit
    of Clopper and Pearson (1934), by bisection; 1.0 without replies."""
    if bad >= replies:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        likely = _at_most(bad, replies, middle) > BASE_ALPHA
        low, high = (middle, high) if likely else (low, middle)
    return high


def _at_most(bad: int, replies: int, rate: float) -> float:
    """The probability of up to `bad` successes, binomially."""
    return sum(
        math.comb(replies, k) * rate**k * (1 - rate) ** (replies - k) for k in range(bad + 1)
    )


def _log_mean(logs: Collection[float]) -> float:
    """The logarithm of the mean of numbers that are given by their logarithms."""
    highest = max(logs)
    return highest + math.log(sum(math.exp(one - highest) for one in logs) / len(logs))

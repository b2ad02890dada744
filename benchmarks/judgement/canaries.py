"""Simulated canaries, judged after each reply as the bot does it."""

from __future__ import annotations

import random
import statistics
from typing import Any

from bot.judgement.canary import BASE_REPLIES
from bot.judgement.sequential import CANARY_REPLIES, is_worse, upper_bound

USUAL_RATE = 0.05
"""The share of an ordinary model's replies that somebody dislikes or stops, or a filter blocks."""
BAD_RATES = {"rude": 0.5, "empty": 1.0, "repeating": 0.4}
"""The same of planted models: half of what a rude one says is blocked or disliked, all of what is
empty fails, and of what repeats itself 2 of 5 are stopped or disliked."""


def measure(runs: int, seed: int) -> dict[str, Any]:
    """`canary_replies`: the median of the replies until a planted bad checkpoint is taken back, of
    the kind for which that takes longest; `canary_false`: the share of those as good as the old
    model that are taken back; `canary_found`: of each bad kind the share that is."""
    chance = random.Random(seed)
    found = {kind: [run(rate, chance) for _ in range(runs)] for kind, rate in BAD_RATES.items()}
    good = [run(USUAL_RATE, chance) for _ in range(runs)]
    slowest = max(statistics.median(one or CANARY_REPLIES for one in of) for of in found.values())
    return {
        "canary_replies": slowest,
        "canary_false": sum(one is not None for one in good) / runs,
        "canary_found": {
            kind: sum(one is not None for one in of) / runs for kind, of in found.items()
        },
    }


def run(rate: float, chance: random.Random) -> int | None:
    """The number of replies after which a canary with that rate of bad ones is taken back; None if
    it is promoted."""
    before = sum(chance.random() < USUAL_RATE for _ in range(BASE_REPLIES))
    bound, bad = upper_bound(before, BASE_REPLIES), 0
    for replies in range(1, CANARY_REPLIES + 1):
        bad += chance.random() < rate
        if is_worse(bad, replies, bound):
            return replies
    return None

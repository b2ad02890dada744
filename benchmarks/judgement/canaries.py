"""Simulated canaries, judged after each reply as the bot does it."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from typing import Any

from bot.judgement.canary import BASE_REPLIES, MAX_DISLIKES_OF_MEMBER
from bot.judgement.sequential import CANARY_REPLIES, is_worse, upper_bound
from core.records import ReplyCounts

USUAL_RATE = 0.05
"""The share of an ordinary model's replies that somebody dislikes or stops, or a filter blocks."""
BAD_RATES = {"rude": 0.5, "empty": 1.0, "repeating": 0.4}
"""The same of planted models: half of what a rude one says is blocked or disliked, all of what is
empty fails, and of what repeats itself 2 of 5 are stopped or disliked."""
MEMBERS = {"rude": 6, "empty": 0, "repeating": 6}
"""How many members say so, each equally often; 0: nobody has to, since there is no reply."""


def measure(runs: int, seed: int) -> dict[str, Any]:
    """`canary_replies`: the median of the replies until a planted bad checkpoint is taken back, of
    the kind for which that takes longest; `canary_false`: the share of those as good as the old
    model that are taken back; `canary_found`: of each bad kind the share that is."""
    chance = random.Random(seed)
    found = {
        kind: [run(rate, chance, MEMBERS[kind]) for _ in range(runs)]
        for kind, rate in BAD_RATES.items()
    }
    good = [run(USUAL_RATE, chance) for _ in range(runs)]
    slowest = max(statistics.median(one or CANARY_REPLIES for one in of) for of in found.values())
    return {
        "canary_replies": slowest,
        "canary_false": sum(one is not None for one in good) / runs,
        "canary_found": {
            kind: sum(one is not None for one in of) / runs for kind, of in found.items()
        },
    }


def run(rate: float, chance: random.Random, members: int = 0) -> int | None:
    """The number of replies after which a canary with that rate of bad ones is taken back; None if
    it is promoted. What `members` find bad is counted as the bot does it."""
    before = sum(chance.random() < USUAL_RATE for _ in range(BASE_REPLIES))
    bound, failed = upper_bound(before, BASE_REPLIES), 0
    disliked: Counter[int] = Counter()
    for replies in range(1, CANARY_REPLIES + 1):
        if chance.random() < rate:
            if members:
                disliked[chance.randrange(members)] += 1
            else:
                failed += 1
        counted = [min(times, MAX_DISLIKES_OF_MEMBER) for times in disliked.values()]
        counts = ReplyCounts(failed + sum(counted), replies, max(counted, default=0))
        if is_worse(counts.counted, replies, bound):
            return replies
    return None

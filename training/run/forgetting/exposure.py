"""How exposed an answer is in a model, and may be in one that never learned it. Pure.

Exposure is that of Carlini et al. 2019, "The Secret Sharer" (arXiv:1802.08232): the bits by which a
model makes an answer easier to guess than one of its alternatives, from the rank of its likelihood
among theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CHANCE = 0.05
"""How often chance alone may call something exposed that was never learned, in a whole receipt."""
RESAMPLES = 10_000


def rank_of(own: float, others: Sequence[float]) -> int:
    """The place of a log-likelihood among itself and others, 1 for the highest. Of equal ones it
    comes first: a receipt must not rather say that something is gone."""
    return 1 + sum(other > own for other in others)


def exposure_bits(rank: int, candidates: int) -> float:
    """`log2 candidates - log2 rank`, where the answer is one of the candidates (Carlini et al.,
    definition 5): 0 if it comes last, `log2 candidates` if first."""
    return math.log2(candidates) - math.log2(rank)


def chance_limit(lessons: int) -> float:
    """The exposure that none of so many lessons exceeds, but for a chance of CHANCE, in a model
    that cannot tell any of their answers from its alternatives.

    For such a model each rank is equally likely, so an exposure exceeds e bits with a probability
    of at most 2 ** -e; with several lessons the chance is shared (Bonferroni)."""
    return math.log2(lessons / CHANCE)


def upper_limit(rank: int, candidates: int) -> float:
    """The upper end of the 95 % interval of an exposure, for the choice of alternatives: they are
    drawn again RESAMPLES times, with replacement (Efron 1979). Only how many of them are ahead of
    the answer matters, so the draws are binomial."""
    others = candidates - 1
    draws = np.random.default_rng(0).binomial(others, (rank - 1) / others, RESAMPLES)
    return exposure_bits(1 + int(np.quantile(draws, 0.025)), candidates)

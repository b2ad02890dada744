"""Shares of questions with their 95 % intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `questions`, with the bounds of its 95 % interval."""

    share: float
    low: float
    high: float
    questions: int

    def __str__(self) -> str:
        share, low, high = (100 * one for one in (self.share, self.low, self.high))
        digits = 2 if high < 2 else 0
        return f"{share:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def wilson(shares: Sequence[float]) -> Share:
    """The mean share, with Wilson's interval (1927) for as many trials as there are questions."""
    z, count, mean = 1.96, len(shares), statistics.mean(shares)
    middle = mean + z * z / (2 * count)
    margin = z * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    low, high = ((middle + side * margin) / (1 + z * z / count) for side in (-1, 1))
    return Share(round(mean, 4), round(max(0.0, low), 4), round(min(1.0, high), 4), count)

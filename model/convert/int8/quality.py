"""How near the int8 of a model is to its fp32, as measured when it was built. Values only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from i18n.phrase import Phrase, phrase

MAX_LOSS = 0.01
"""How much the loss may rise, in nats a token: 0.01 is 1 % of perplexity."""
MAX_DIVERGENCE = 0.01
"""Nats of Kullback-Leibler divergence of the next token's distribution from that in fp32. For text
that the model itself would write, it is the rise of the loss."""
MAX_TOLD_LOSS = 100.0
"""So that a sentence about a broken model can be written at all."""


@dataclass(frozen=True, slots=True)
class Int8Quality:
    """`divergence` and `loss`: in nats a token, on text that int8 was not fitted to. `fp32` of the
    `matrices` stayed in fp32."""

    divergence: float
    loss: float
    fp32: int = 0
    matrices: int = 0

    @property
    def excess(self) -> float:
        """The worse of both in units of its limit."""
        return max(self.divergence / MAX_DIVERGENCE, self.loss / MAX_LOSS)

    @property
    def is_near(self) -> bool:
        return self.excess <= 1

    @property
    def percent(self) -> float:
        """How far the perplexity is above that of fp32, in percent of that, to the next tenth."""
        return max(0, math.ceil(1000 * math.expm1(min(self.loss, MAX_TOLD_LOSS)))) / 10


def int8_message(quality: Int8Quality) -> Phrase:
    """One sentence about it."""
    if not quality.fp32:
        return phrase(
            "Its perplexity is at most {percent:.1f} % above that in fp32.", percent=quality.percent
        )
    return phrase(
        "{fp32} of {count} weight matrices stay in fp32, because in int8 the replies would change "
        "too much; so its perplexity is at most {percent:.1f} % above that in fp32.",
        fp32=quality.fp32,
        count=quality.matrices,
        percent=quality.percent,
    )

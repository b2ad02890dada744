"""How near the int8 of a model is to its fp32, as it was measured when it was built. Values only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from i18n.phrase import Phrase, phrase

MAX_LOSS = 0.01
"""How much the loss may rise, in nats a token: 0.01 is 1 % of perplexity."""
MAX_DIVERGENCE = 0.01
"""Nats of Kullback-Leibler divergence of the next token's distribution from that in fp32. For text
that the model itself would write, it is the rise of the loss."""


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
        """By how much perplexity rises, in percent; 0 if it does not."""
        return max(0.0, 100 * math.expm1(min(self.loss, 100)))


def int8_message(quality: Int8Quality) -> Phrase:
    """One sentence about it."""
    if not quality.fp32:
        return phrase(
            "int8 raises perplexity by {percent:.1f} % over fp32.", percent=quality.percent
        )
    return phrase(
        "{fp32} of {count} weight matrices stay in fp32, because int8 would change the replies too "
        "much; so perplexity rises by {percent:.1f} %.",
        fp32=quality.fp32,
        count=quality.matrices,
        percent=quality.percent,
    )

"""The sampling parameters of a request, and why its reply ended. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

USUAL_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling parameters of one reply.

    `temperature` 0 is greedy. `top_k` 0 and `top_p` 1 switch those filters off.
    `repetition_penalty` divides the positive logits (multiplies the negative ones) of tokens that
    the reply already has (Keskar et al. 2019, section 4.1). `no_repeat_ngram` bans n-grams that the
    reply already has; 0 is off. `seed` None draws one; the same seed gives the same reply, whatever
    else is in the batch (on a GPU nearly always). A reply ends before the first of the strings
    `stop`, and has none of the `banned_words`: complete words, in any case.

    Raises:
        ValueError: a value is out of its range.
    """

    max_new_tokens: int = 60
    temperature: float = USUAL_TEMPERATURE
    top_k: int = 40
    top_p: float = 0.9
    repetition_penalty: float = 1.1
    no_repeat_ngram: int = 4
    seed: int | None = None
    stop: tuple[str, ...] = ()
    banned_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1")
        if self.temperature < 0:
            raise ValueError("temperature must not be negative")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError("top_k must not be negative and top_p must lie above 0, up to 1")
        if self.repetition_penalty < 1 or self.no_repeat_ngram < 0:
            raise ValueError("repetition_penalty must be at least 1, no_repeat_ngram at least 0")
        if not all(self.stop) or not all(map(str.strip, self.banned_words)):
            raise ValueError("stop texts and banned words must not be empty")


class FinishReason(StrEnum):
    """Why a reply ended."""

    END = "end"
    """The model ended its turn: EOS or a stop string."""
    LENGTH = "length"
    """`max_new_tokens` or the context length was reached."""
    ABORTED = "aborted"
    DEADLINE = "deadline"
    """The time limit was reached; the reply is the text so far."""

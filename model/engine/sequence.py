"""One reply in the making: what was asked, what was said so far, how it ended. No tensors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random

from model.sampling import FinishReason, SamplingParams

ATTEMPTS = 4
"""How often an empty reply is tried before it is given up; the last try cannot be empty."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A reply. `model` is the key of the loaded model that writes it; ids are token ids.

    `channel` (0: none) and `scope` say whose it is; `cut` of its messages are not whole in the
    prompt. `past` tokens are in the cache, where it may take `memory` bytes; with its reply it has
    at most `positions` tokens. `text` is what the reply says so far, of which `sent` characters
    were delivered. An `idle` one only reads its prompt, which will be the beginning of another. It
    `arrived`, and its reply `began`, by `time.monotonic`. `log_id` is that of its lines in the log.
    """

    request_id: int
    model: int
    prompt_ids: list[int]
    params: SamplingParams
    seed: int
    channel: int = 0
    scope: int = 0
    log_id: str = ""
    cut: int = 0
    memory: int = 0
    positions: int = 1 << 30
    deadline: float | None = None
    idle: bool = False
    past: int = 0
    reply_ids: list[int] = field(default_factory=list)
    text: str = ""
    sent: int = 0
    attempt: int = 0
    reason: FinishReason | None = None
    arrived: float = field(default_factory=time.monotonic)
    began: float | None = None
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    @property
    def unread(self) -> int:
        """Tokens of the prompt that the model has not read."""
        return max(0, len(self.prompt_ids) - self.past)

    @property
    def seen(self) -> list[int]:
        """The tokens in the cache."""
        return (self.prompt_ids + self.reply_ids)[: self.past]

    @property
    def must_speak(self) -> bool:
        """Whether the next token may not end the reply: nothing said yet, and no use to hope."""
        hopeless = self.attempt > 0 and self.params.temperature == 0
        return not self.text and (hopeless or self.attempt == ATTEMPTS - 1)

    def try_again(self) -> bool:
        """Forget an empty reply and draw another; False if it was the last attempt."""
        if self.attempt + 1 >= ATTEMPTS:
            return False
        self.attempt += 1
        self.random = Random(self.seed + self.attempt)
        self.reply_ids.clear()
        self.text, self.sent, self.reason = "", 0, None
        return True

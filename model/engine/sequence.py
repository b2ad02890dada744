"""One reply in the making: what was asked, what was said so far, how it ended. No tensors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random

from model.sampling import FinishReason, SamplingParams

MAX_REPLY_ATTEMPTS = 4
"""How often an empty reply is tried before it is given up; the last try cannot be empty."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A reply. `model` is the key of the loaded model that writes it; ids are token ids.

    `channel` (0: none) and `scope` say whose it is; `truncated_messages` of its messages are not
    whole in the prompt. `num_cached_tokens` tokens are in the cache, where it may take
    `max_cache_bytes` bytes; with its reply it has at most `max_length` tokens. `text` is what the
    reply says so far, of which `sent_chars` characters were delivered. An `prefetch_only` one only
    reads its prompt, which will be the beginning of another. It `arrival_time`, and its reply
    `first_token_time`, by `time.monotonic`. `log_id` is that of its lines in the log.
    """

    request_id: int
    model: int
    prompt_ids: list[int]
    params: SamplingParams
    seed: int
    channel: int = 0
    scope: int = 0
    log_id: str = ""
    truncated_messages: int = 0
    max_cache_bytes: int = 0
    max_length: int = 1 << 30
    deadline: float | None = None
    prefetch_only: bool = False
    num_cached_tokens: int = 0
    reply_ids: list[int] = field(default_factory=list)
    text: str = ""
    sent_chars: int = 0
    attempt: int = 0
    finish_reason: FinishReason | None = None
    arrival_time: float = field(default_factory=time.monotonic)
    first_token_time: float | None = None
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    @property
    def unprefilled(self) -> int:
        """Tokens of the prompt that the model has not read."""
        return max(0, len(self.prompt_ids) - self.num_cached_tokens)

    @property
    def cached_ids(self) -> list[int]:
        """The tokens in the cache."""
        return (self.prompt_ids + self.reply_ids)[: self.num_cached_tokens]

    @property
    def must_not_end(self) -> bool:
        """Whether the next token may not end the reply: nothing said yet, and no use to hope."""
        hopeless = self.attempt > 0 and self.params.temperature == 0
        return not self.text and (hopeless or self.attempt == MAX_REPLY_ATTEMPTS - 1)

    def retry(self) -> bool:
        """Forget an empty reply and draw another; False if it was the last attempt."""
        if self.attempt + 1 >= MAX_REPLY_ATTEMPTS:
            return False
        self.attempt += 1
        self.random = Random(self.seed + self.attempt)
        self.reply_ids.clear()
        self.text, self.sent_chars, self.finish_reason = "", 0, None
        return True

"""The state of one request: its prompt, the reply so far, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random

from model.adapter import Adapter
from model.runners.base import Logits
from model.sampling import FinishReason, SamplingParams

MAX_REPLY_ATTEMPTS = 4
"""How often an empty reply is generated again before it fails; the last attempt cannot be empty."""


@dataclass(slots=True, eq=False)
class Fork:
    """Where a reply can go another way: after `length` tokens, with the `logits` (V,) there, but
    not with the `forbidden` tokens."""

    length: int
    logits: Logits
    forbidden: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Sequence:
    """One request; ids are token ids, times are of `time.monotonic`, `first_token_s` a duration.

    `model` is the key of its LoadedModel, `batch` that of the models with which it can run in one
    step (0: with no other): they share a runner, in which its row has the `adapter`. `channel`
    (0: none) and `scope` are for fairness and the prefix cache. Of its messages,
    `truncated_messages` were dropped or cut to fit the prompt.

    Those with a lower `rank` start earlier; when it came, the prefix cache had `num_known_tokens`.

    The KV cache holds `num_cached_tokens` of its tokens, and reserves `max_cache_bytes`; of the
    prompt, `num_prefilled_tokens` were computed, the others taken from the prefix cache. Prompt and
    reply share `max_length` positions. `text` is the reply so far, of which `sent_chars` characters
    were delivered. `fork` is where a word begins that may become a banned
    one. A `prefetch_only` sequence has no reply: its prompt is the start of a later one.
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
    batch: int = 0
    adapter: Adapter | None = None
    rank: int = 0
    num_known_tokens: int = 0
    num_cached_tokens: int = 0
    num_prefilled_tokens: int = 0
    reply_ids: list[int] = field(default_factory=list)
    text: str = ""
    sent_chars: int = 0
    fork: Fork | None = None
    attempt: int = 0
    finish_reason: FinishReason | None = None
    arrival_time: float = field(default_factory=time.monotonic)
    first_token_s: float | None = None
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.batch = self.batch or self.model

    @property
    def unprefilled(self) -> int:
        """Prompt tokens that are not in the KV cache yet."""
        return max(0, len(self.prompt_ids) - self.num_cached_tokens)

    @property
    def expected_prefill(self) -> int:
        """Prompt tokens that are still to be computed, as far as that is known."""
        return len(self.prompt_ids) - max(self.num_cached_tokens, self.num_known_tokens)

    @property
    def cached_ids(self) -> list[int]:
        """The tokens in the KV cache."""
        return (self.prompt_ids + self.reply_ids)[: self.num_cached_tokens]

    @property
    def ended_naturally(self) -> bool:
        """Whether the model ended the reply, or its length did."""
        return self.finish_reason in (FinishReason.END, FinishReason.LENGTH)

    @property
    def must_not_end(self) -> bool:
        """Whether the end tokens are suppressed, because the reply would remain empty.

        On the last attempt; with greedy decoding from the second on, as it would draw the same.
        """
        is_greedy_retry = self.attempt > 0 and self.params.temperature == 0
        return not self.text and (is_greedy_retry or self.attempt == MAX_REPLY_ATTEMPTS - 1)

    def rewind(self, length: int) -> None:
        """Discard all but the first `length` tokens of the reply; sampling goes on from there."""
        del self.reply_ids[length:]
        self.num_cached_tokens = len(self.prompt_ids) + length

    def retry(self) -> bool:
        """Discard an empty reply to generate another; False if that was the last attempt."""
        if self.attempt + 1 >= MAX_REPLY_ATTEMPTS:
            return False
        self.attempt += 1
        self.random = Random(self.seed + self.attempt)
        self.reply_ids.clear()
        self.fork = None
        self.text, self.sent_chars, self.finish_reason = "", 0, None
        return True

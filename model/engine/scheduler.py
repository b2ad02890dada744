"""Decides what runs in each step: which models, who decodes, whose prompts are prefilled. Pure.

Continuous batching: sequences join and leave between two steps. A step is bounded, so that no long
prompt stalls the replies in progress (chunked prefill), and models take turns, one step each.
Models that share a runner (adapters of one base) are one batch, and take one turn together.

People wait for the first words more than for the next ones, so prompts go before the replies in
progress, which pause for MAX_PAUSE_S at most. Short prompts are prefilled together.

Fairness: within a channel first come, first served. The server with the fewest running replies goes
first, then the least recently served one. Of its channels, those with the fewest running replies
go first, then the shortest prompt: the mean wait is least then. A prompt is overtaken only by those
that come before so many others have started that its length is made up for (AGEING_TOKENS).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model.engine.sequence import Sequence

PREFILL_BUDGET = 512
"""Prompt tokens per step while nobody waits for a next token."""
PREFILL_BUDGET_WHILE_DECODING = 128
"""Prompt tokens per step, at most, while replies are being decoded: each stalls for that long."""
MAX_DECODE_STALL_S = 0.06
"""Seconds of such a stall; a slow model gets fewer tokens per step."""
MAX_PAUSE_S = 0.25
"""Seconds for which replies may wait while prompts are prefilled, after which the current step ends
and they get a token each. A reader hardly sees that: Discord shows edits a second apart."""
MIN_BUDGET = 8
"""A rest of a step's budget that is not worth running the model."""
AGEING_TOKENS = 16
"""How much longer a prompt may be for each other request that has started since it came."""
PREFETCH_BUDGET = 32
"""Tokens of a prefetch per step: a request that arrives meanwhile waits for one step at most."""
MAX_PREFETCHES = 32
"""Queued prefetches, one a channel; on a busy machine they would pile up."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a `batch` of models that share a runner: `decoding` get a token each; the budget
    is for `prefills`."""

    batch: int
    decoding: tuple[Sequence, ...]
    prefill_budget: int


class Scheduler:
    """The queue and the running batch.

    At most `max_sequences` run at a time, and together reserve at most `cache_budget_bytes`.
    """

    def __init__(
        self,
        max_sequences: int,
        cache_budget_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._max_sequences = max_sequences
        self._cache_budget_bytes = cache_budget_bytes
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._prefetches: dict[tuple[int, int], Sequence] = {}
        self._round_robin: list[int] = []
        self._last_served: dict[int, int] = {}
        self._last_decoded: dict[int, float] = {}
        self._ticks = 0

    @property
    def has_work(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._waiting or self._running or self._prefetches)

    @property
    def sequences(self) -> list[Sequence]:
        """All requests: running, then queued. Without prefetches."""
        return [*self._running, *self._waiting]

    @property
    def prefetches(self) -> list[Sequence]:
        """The queued prefetches, oldest first."""
        return list(self._prefetches.values())

    @property
    def num_waiting(self) -> int:
        """Requests that cannot start before others end."""
        return len(self._waiting) - len(self._admissible())

    @property
    def reserved_bytes(self) -> int:
        """Cache memory that the running sequences need in the worst case."""
        return sum(one.max_cache_bytes for one in self._running)

    def add(self, sequence: Sequence) -> None:
        """Queue a request."""
        sequence.rank = sequence.expected_prefill + AGEING_TOKENS * self._ticks
        self._waiting.append(sequence)

    def add_prefetch(self, sequence: Sequence) -> list[Sequence]:
        """Queue a prefetch; returns those that it displaces: its channel's, and the oldest."""
        key = (sequence.model, sequence.channel)
        displaced = [self._prefetches.pop(key)] if key in self._prefetches else []
        if len(self._prefetches) == MAX_PREFETCHES:
            displaced.append(self._prefetches.pop(next(iter(self._prefetches))))
        self._prefetches[key] = sequence
        return displaced

    def queue_position(self, sequence: Sequence) -> int:
        """Its place among those that must wait: 1 is the next to start, 0 starts now."""
        order = self._admission_order(len(self._waiting))
        return max(0, order.index(sequence) + 1 - len(self._admissible()))

    def schedule(self) -> Step | None:
        """The next step; None if there is nothing to do."""
        # a model whose request can start takes part in the turns at once, so that a stream of later
        # requests for another model cannot overtake it
        active = dict.fromkeys(one.batch for one in [*self._running, *self._admissible()])
        if not active:
            prefetch = next(iter(self._prefetches.values()), None)
            return Step(prefetch.batch, (), PREFETCH_BUDGET) if prefetch else None
        new = [batch for batch in active if batch not in self._round_robin]
        batch, *rest = [*(batch for batch in self._round_robin if batch in active), *new]
        self._round_robin = [*rest, batch]
        is_shared = any(not one.unprefilled for one in self._running)  # whatever their model
        budget = PREFILL_BUDGET_WHILE_DECODING if is_shared else PREFILL_BUDGET
        return Step(batch, self._decoding(batch), budget)

    def _decoding(self, batch: int) -> tuple[Sequence, ...]:
        """Who gets a token in the next step: nobody, while replies may pause for prompts."""
        decoding = tuple(one for one in self._running if one.batch == batch and not one.unprefilled)
        if not decoding:
            self._last_decoded.pop(batch, None)
            return ()
        now = self._clock()
        pause = now - self._last_decoded.setdefault(batch, now)
        if pause < MAX_PAUSE_S and self._has_prompts(batch):
            return ()
        self._last_decoded[batch] = now
        return decoding

    def _has_prompts(self, batch: int) -> bool:
        begun = (one for one in self._running if one.unprefilled)
        return any(one.batch == batch for one in (*begun, *self._admissible()))

    def prefills(
        self, step: Step, seconds_per_token: Callable[[], float], pack_tokens: int = 0
    ) -> Iterator[tuple[list[Sequence], int]]:
        """Those whose prompts are prefilled together in a step, and their most tokens in all.

        A prompt gets company up to `pack_tokens`. Lazy, since only running the step shows how much
        of a prompt the prefix cache has, and whether a reply ends at once and leaves its place to
        the next.
        """
        budget = step.prefill_budget
        if budget < PREFILL_BUDGET:
            budget = min(budget, _stall_budget(seconds_per_token()))
        while budget >= MIN_BUDGET and (group := self._next_prefills(step.batch, pack_tokens)):
            if group[0].prefetch_only:
                yield group, PREFETCH_BUDGET
                return  # a request may have arrived
            before = sum(one.num_prefilled_tokens for one in group)
            yield group, budget
            budget -= sum(one.num_prefilled_tokens for one in group) - before
            if any(not one.unprefilled for one in group):  # they decode from now on
                self._last_decoded.setdefault(step.batch, self._clock())
                budget = min(budget, _stall_budget(seconds_per_token()))

    def _next_prefills(self, batch: int, pack_tokens: int) -> list[Sequence]:
        """The running sequences with an unfinished prompt, and those that can start beside them; or
        the next that can start. A prefetch comes only if there is no request."""
        group = [one for one in self._running if one.batch == batch and one.unprefilled]
        tokens = sum(one.expected_prefill for one in group)
        for sequence in self._admissible():
            if sequence.batch != batch:
                continue
            tokens += sequence.expected_prefill
            if group and tokens > pack_tokens:
                break
            self._start(sequence)
            group.append(sequence)
        if group or self._running or self._waiting:
            return group
        return [one for one in self._prefetches.values() if one.batch == batch][:1]

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence, wherever it is; a prefetch that was displaced is gone already."""
        if sequence.prefetch_only:
            if self._prefetches.get((sequence.model, sequence.channel)) is sequence:
                del self._prefetches[sequence.model, sequence.channel]
        elif sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        if not self._running and not self._waiting:
            self._last_served.clear()
            self._last_decoded.clear()

    def _start(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)
        self._running.append(sequence)
        self._ticks += 1
        self._last_served[sequence.scope] = self._last_served[_fairness_key(sequence)] = self._ticks

    def _admissible(self) -> list[Sequence]:
        """The queued sequences that can start now: a place is free, and memory to the last token.

        Reserving the worst case means that a running sequence never has to be preempted.
        """
        available = self._cache_budget_bytes - self.reserved_bytes
        admitted: list[Sequence] = []
        for sequence in self._admission_order(self._max_sequences - len(self._running)):
            available -= sequence.max_cache_bytes
            if available < 0:
                break  # smaller ones must not overtake it, or it might starve
            admitted.append(sequence)
        return admitted

    def _admission_order(self, count: int) -> list[Sequence]:
        """The first `count` of the queue, in the order in which they start.

        Simulates the admissions one by one: each changes who is served least. Only the head of each
        channel competes, which keeps a channel's requests in order.
        """
        scopes = Counter(one.scope for one in self._running)
        channels = Counter(_fairness_key(one) for one in self._running)
        waiting, last_served = list(self._waiting), dict(self._last_served)
        order: list[Sequence] = []
        while waiting and len(order) < count:
            heads: dict[int, Sequence] = {}
            for sequence in waiting:
                heads.setdefault(_fairness_key(sequence), sequence)
            best = min(
                heads.values(),
                key=lambda one: (
                    scopes[one.scope],
                    last_served.get(one.scope, 0),
                    channels[_fairness_key(one)],
                    one.rank,
                    last_served.get(_fairness_key(one), 0),
                ),
            )
            order.append(best)
            waiting.remove(best)
            key = _fairness_key(best)
            scopes[best.scope] += 1
            channels[key] += 1
            last_served[best.scope] = last_served[key] = self._ticks + len(order)
        return order


def _fairness_key(sequence: Sequence) -> int:
    """The channel, or the request if it has none; negative, so that it never equals a scope."""
    return -1 - (2 * sequence.channel if sequence.channel else 2 * sequence.request_id + 1)


def _stall_budget(seconds_per_token: float) -> int:
    """Prompt tokens that the model prefills in MAX_DECODE_STALL_S, within the other limits."""
    if not seconds_per_token:
        return PREFILL_BUDGET_WHILE_DECODING
    tokens = int(MAX_DECODE_STALL_S / seconds_per_token)
    return max(PREFETCH_BUDGET, min(PREFILL_BUDGET_WHILE_DECODING, tokens))

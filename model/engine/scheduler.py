"""Who runs next: fair, bounded, models in turn. Pure; no tensors.

Within a channel first come, first served. Between servers, and between the channels of one, the
one with the fewest replies under way goes first, then the one that was served longest ago.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from model.engine.sequence import Sequence

PREFILL_BUDGET = 512
"""Tokens of prompts that are read in one step while nobody waits for a next word."""
PREFILL_BUDGET_WHILE_DECODING = 128
"""The same while others are being answered: they would see their replies stop for longer."""
PREFETCH_BUDGET = 32
"""The same for what nobody waits for yet: a request that comes now waits this long at most."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one model: these sequences decode a token, then `prefill_budget` tokens are
    read."""

    model: int
    decoding: tuple[Sequence, ...]
    prefill_budget: int


class Scheduler:
    """Sequences join and leave between two steps.

    At most `max_sequences` run at a time, and together they may need `memory` bytes of cache.
    """

    def __init__(self, max_sequences: int, memory: int) -> None:
        self._max_sequences = max_sequences
        self._cache_budget_bytes = memory
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._prefetches: dict[tuple[int, int], Sequence] = {}
        self._round_robin: list[int] = []
        self._last_served: dict[int, int] = {}
        self._ticks = 0

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._running or self._prefetches)

    @property
    def sequences(self) -> list[Sequence]:
        """All that somebody waits for, running ones first."""
        return [*self._running, *self._waiting]

    @property
    def prefetches(self) -> list[Sequence]:
        """Those that nobody waits for yet."""
        return list(self._prefetches.values())

    @property
    def num_waiting(self) -> int:
        """How many have to wait until others end."""
        return len(self._waiting) - len(self._admissible())

    @property
    def reserved_bytes(self) -> int:
        """Bytes that the running ones may come to need."""
        return sum(one.max_cache_bytes for one in self._running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; an idle one takes the place of the last such of its channel."""
        if sequence.prefetch_only:
            self._prefetches[sequence.model, sequence.channel] = sequence
        else:
            self._waiting.append(sequence)

    def queue_position(self, sequence: Sequence) -> int:
        """How many steps of the queue are before it: 0 if it begins now, 1 if it is the next."""
        order = self._admission_order(len(self._waiting))
        return max(0, order.index(sequence) + 1 - len(self._admissible()))

    def schedule(self) -> Step | None:
        """The next step, None if there is nothing to do.

        A model that is admitted has its turn, so it loses no place to a later request.
        """
        active = dict.fromkeys(one.model for one in [*self._running, *self._admissible()])
        if not active:
            idle = next(iter(self._prefetches.values()), None)
            return Step(idle.model, (), PREFETCH_BUDGET) if idle else None
        new = [model for model in active if model not in self._round_robin]
        model, *rest = [*(model for model in self._round_robin if model in active), *new]
        self._round_robin = [*rest, model]
        decoding = tuple(one for one in self._running if one.model == model and not one.unprefilled)
        company = any(not one.unprefilled for one in self._running)  # of this model or another
        return Step(model, decoding, PREFILL_BUDGET_WHILE_DECODING if company else PREFILL_BUDGET)

    def next_prefill(self, model: int) -> Sequence | None:
        """Whose prompt is read next: one that is begun, else the next that may begin.

        It is running from then on. An idle one is chosen only where nobody waits for anything.
        """
        for one in self._running:
            if one.model == model and one.unprefilled:
                return one
        for one in self._admissible():
            if one.model == model:
                self._start(one)
                return one
        if self._running or self._waiting:
            return None
        return next((one for one in self._prefetches.values() if one.model == model), None)

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence that has ended, wherever it is."""
        if sequence.prefetch_only:
            if self._prefetches.get((sequence.model, sequence.channel)) is sequence:
                del self._prefetches[sequence.model, sequence.channel]
        elif sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        if not self._running and not self._waiting:
            self._last_served.clear()

    def _start(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)
        self._running.append(sequence)
        self._ticks += 1
        self._last_served[sequence.scope] = self._last_served[_fairness_key(sequence)] = self._ticks

    def _admissible(self) -> list[Sequence]:
        """Those of the queue that may begin now: there is a place, and memory for all of it."""
        memory = self._cache_budget_bytes - self.reserved_bytes
        admitted: list[Sequence] = []
        for one in self._admission_order(self._max_sequences - len(self._running)):
            memory -= one.max_cache_bytes
            if memory < 0:
                break  # a smaller one must not overtake it for ever
            admitted.append(one)
        return admitted

    def _admission_order(self, count: int) -> list[Sequence]:
        """The first `count` of the queue, in the order in which they may begin."""
        scopes = Counter(one.scope for one in self._running)
        channels = Counter(_fairness_key(one) for one in self._running)
        waiting, taken = list(self._waiting), dict(self._last_served)
        order: list[Sequence] = []
        while waiting and len(order) < count:
            heads: dict[int, Sequence] = {}
            for one in waiting:
                heads.setdefault(_fairness_key(one), one)
            best = min(
                heads.values(),
                key=lambda one: (
                    scopes[one.scope],
                    taken.get(one.scope, 0),
                    channels[_fairness_key(one)],
                    taken.get(_fairness_key(one), 0),
                ),
            )
            order.append(best)
            waiting.remove(best)
            scopes[best.scope] += 1
            channels[_fairness_key(best)] += 1
            taken[best.scope] = taken[_fairness_key(best)] = self._ticks + len(order)
        return order


def _fairness_key(sequence: Sequence) -> int:
    """What is served in order: a channel, or a request that has none. Never the id of a scope."""
    return -1 - (2 * sequence.channel if sequence.channel else 2 * sequence.request_id + 1)

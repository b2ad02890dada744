"""Who runs next: first come first served, a bounded batch, models in turn. Pure; no tensors."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import accumulate, islice

from model.sequence import Sequence

PROMPT_TOKENS = 512
"""Tokens of prompts read in one step: with more, those who are being answered would wait long."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one model: `joining` sequences are prefilled, `running` ones decode a token."""

    model: int
    joining: tuple[Sequence, ...]
    running: tuple[Sequence, ...]


class Scheduler:
    """Sequences join and leave between two steps; at most `max_sequences` run at a time."""

    def __init__(self, max_sequences: int) -> None:
        self._max = max_sequences
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._turns: list[int] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def sequences(self) -> list[Sequence]:
        """All of them, running ones first."""
        return [*self._running, *self._waiting]

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self._waiting.append(sequence)

    def schedule(self) -> Step | None:
        """The next step, None if there is nothing to do; what joins is running from then on.

        The first of the queue hold the free places, so a model that waits for its turn loses
        none to a later request.
        """
        admitted = list(islice(self._waiting, self._max - len(self._running)))
        active = dict.fromkeys(one.model for one in [*self._running, *admitted])
        if not active:
            return None
        new = [model for model in active if model not in self._turns]
        model, *rest = [*(model for model in self._turns if model in active), *new]
        self._turns = [*rest, model]
        step = Step(
            model,
            joining=_at_a_time([one for one in admitted if one.model == model]),
            running=tuple(one for one in self._running if one.model == model),
        )
        for one in step.joining:
            self._waiting.remove(one)
        self._running += step.joining
        return step

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence that has ended, wherever it is."""
        if sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)


def _at_a_time(sequences: list[Sequence]) -> tuple[Sequence, ...]:
    """The first, and as many more as PROMPT_TOKENS allows."""
    read = accumulate(len(one.prompt_ids) for one in sequences)
    count = sum(tokens <= PROMPT_TOKENS for tokens in read)
    return tuple(sequences[: max(1, count)])

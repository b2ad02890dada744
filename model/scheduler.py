"""Who runs next: first come first served, a bounded batch, models in turn. Pure; no tensors."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from model.sequence import Sequence


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
        self._turns: deque[int] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._running or sequence in self._waiting

    @property
    def sequences(self) -> list[Sequence]:
        """All of them, running ones first."""
        return [*self._running, *self._waiting]

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self._waiting.append(sequence)

    def schedule(self) -> Step | None:
        """The next step, None if there is nothing to do; what joins is running from then on."""
        joining: list[Sequence] = []
        while self._waiting and len(self._running) + len(joining) < self._max:
            joining.append(self._waiting.popleft())
        for sequence in joining:
            if sequence.model not in self._turns:
                self._turns.appendleft(sequence.model)
        if not self._turns:
            return None
        model = self._turns[0]
        self._turns.rotate(-1)
        mine = tuple(one for one in joining if one.model == model)
        others = [one for one in joining if one.model != model]
        self._waiting.extendleft(reversed(others))
        step = Step(model, mine, tuple(one for one in self._running if one.model == model))
        self._running += mine
        return step

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence that has ended, wherever it is."""
        if sequence in self._running:
            self._running.remove(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        in_use = any(one.model == sequence.model for one in self.sequences)
        if not in_use and sequence.model in self._turns:
            self._turns.remove(sequence.model)

"""What the engine needs of a runner: the one place where a model computes.

A runner keeps the cache of the sequences that it runs, and draws their tokens. The engine knows
no more of it than this, so another way to compute changes nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Protocol

from model.sequence import Sequence

Said = list[tuple[Sequence, int | None]]
"""Sequences and their next token's id; None where the model computed no finite numbers."""


class Runner(Protocol):
    """Runs the sequences of one model in one batch."""

    def prefill(self, joining: Many[Sequence]) -> Said:
        """Read the prompts of new sequences, which are in the batch from then on."""

    def decode(self) -> Said:
        """One more token for each sequence of the batch."""

    def drop(self, gone: Many[Sequence]) -> None:
        """Let go of sequences that have ended or start anew, if they are in the batch."""

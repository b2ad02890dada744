"""What a job knows of its training run, wherever that runs: in a process of its own here
(`training.jobs.process`), or on a machine of a cluster (`training.cluster`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, Protocol

from training.jobs.events import Event

ControlWord = Literal["pause", "hold", "go"]
"""`pause`: save and end. `hold`: wait between two steps. `go`: no longer."""


class TrainingChild(Protocol):
    """A training run that was started."""

    @property
    def exit_status(self) -> int | None:
        """The exit status; below 0 the number of the signal that ended it; None while it runs."""

    def events(self) -> AsyncIterator[Event]:
        """What the run tells, until it ends. Before `Saved`, `Finished` and `Rejected` are told,
        what they speak of is in the job's folder."""

    def send(self, word: ControlWord) -> None:
        """Say something to the run; it listens between two steps."""

    async def kill(self) -> None:
        """End the run at once."""


Launch = Callable[[Path], AbstractAsyncContextManager[TrainingChild]]
"""Starts the run of a job's folder; at the end of the block it is gone, whatever it was doing."""

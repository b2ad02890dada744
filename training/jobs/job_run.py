"""One attempt at a job: its run, its phase, and requests to stop, pause or cancel.

Does not know the database, the queue or checkpoints, nor where the run is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, IntEnum, auto
from pathlib import Path

from core.records import TrainingJob
from training.jobs.events import Checking, Event, Lowered, Started
from training.jobs.launch import Launch, TrainingChild

HOLD_S = 20.0
"""How long a run is held when replies are slow."""


class Phase(Enum):
    """The phase of an attempt, which decides what can still be requested."""

    STARTING = auto()
    """Before the first step there is nothing to save: a pause kills it."""
    TRAINING = auto()
    """On a pause, the run saves after the current step."""
    CHECKING = auto()
    """After the last step, or the run has ended: too late for a pause."""
    DECIDED = auto()
    """The checkpoint is being promoted, or the outcome stored: too late to cancel."""


class Request(IntEnum):
    """A request to an attempt; the highest wins."""

    NONE = 0
    STOP = 1
    """The bot stops: save, and resume at its next start."""
    PAUSE = 2
    CANCEL = 3


class JobRun:
    """The current attempt at a job; its run may not have started yet, or have ended."""

    def __init__(self, job: TrainingJob, requested: Request = Request.NONE) -> None:
        self.job = job
        self.phase = Phase.STARTING
        self.requested = requested
        self._child: TrainingChild | None = None
        self._hold_timer: asyncio.TimerHandle | None = None

    async def execute(
        self, on_event: Callable[[Event], Awaitable[None]], launch: Launch
    ) -> tuple[Event | None, int]:
        """Train to the end; return the last event and the exit status."""
        last: Event | None = None
        async with launch(Path(self.job.directory)) as child:
            self._child = child
            try:
                await self._deliver_request()  # one made while it was starting
                async for event in child.events():
                    last = event
                    self._advance(event)
                    await on_event(event)
            finally:
                self._child, self.phase = None, Phase.CHECKING
                self._cancel_timer()
        assert child.exit_status is not None  # it has ended
        return last, child.exit_status

    def _advance(self, event: Event) -> None:
        match event:
            case Started():
                self.phase = Phase.TRAINING
            case Lowered():
                self.phase = Phase.STARTING  # it restarts with smaller batches
            case Checking():
                self.phase = Phase.CHECKING

    @property
    def is_pausing(self) -> bool:
        return self.requested is Request.PAUSE

    async def pause(self) -> bool:
        """Save and end; False after the last step."""
        if self.phase not in (Phase.STARTING, Phase.TRAINING):
            return False
        await self.request(Request.PAUSE)
        return True

    async def cancel(self) -> bool:
        """End without a checkpoint; False if the outcome is decided."""
        if self.phase is Phase.DECIDED:
            return False
        await self.request(Request.CANCEL)
        return True

    async def request(self, request: Request) -> None:
        """Pass a request to the run; one of a lower rank than an earlier one has no effect."""
        self.requested = max(self.requested, request)
        await self._deliver_request()

    async def _deliver_request(self) -> None:
        if self._child is None:
            return
        match self.requested:
            case Request.STOP:
                self._child.send("pause")
            case Request.PAUSE if self.phase is Phase.TRAINING:
                self._child.send("pause")
            case Request.PAUSE | Request.CANCEL:
                await self._child.kill()

    def hold(self) -> None:
        """Pause between two steps until HOLD_S after the last call."""
        if self._child is None:
            return
        self._child.send("hold")
        self._cancel_timer()
        self._hold_timer = asyncio.get_running_loop().call_later(HOLD_S, self._end_hold)

    def _end_hold(self) -> None:
        if self._child is not None:
            self._child.send("go")

    def _cancel_timer(self) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()

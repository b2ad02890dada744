"""One attempt at a job: its child process, how far it is, and what was requested of it.

Knows the process and its events. Does not know the database, the queue or checkpoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, IntEnum, auto
from pathlib import Path

from core.logging import LogFormat
from core.records import TrainingJob
from training.jobs.events import Checking, Event, Lowered, Started
from training.jobs.process import TrainingProcess

HOLD_S = 20.0
"""Seconds for which a run is held when replies are slow."""


class Phase(Enum):
    """How far an attempt is, which decides what can still be requested of it."""

    STARTING = auto()
    """No step was taken, so nothing can be saved: a pause kills the process."""
    TRAINING = auto()
    """A pause lets the process save after the step under way."""
    CHECKING = auto()
    """All steps were taken, or the process has ended: too late for a pause."""
    DECIDED = auto()
    """The checkpoint is being put into service, or the outcome stored: too late to cancel."""


class Request(IntEnum):
    """What was requested of an attempt. Of several requests the highest counts."""

    NONE = 0
    STOP = 1
    """The bot stops: save, and go on at its next start."""
    PAUSE = 2
    CANCEL = 3


class JobRun:
    """The attempt at a job that is under way. There may be no process yet, or none any more."""

    def __init__(self, job: TrainingJob, requested: Request = Request.NONE) -> None:
        self.job = job
        self.phase = Phase.STARTING
        self.requested = requested
        self._process: TrainingProcess | None = None
        self._hold_timer: asyncio.TimerHandle | None = None

    async def execute(
        self,
        on_event: Callable[[Event], Awaitable[None]],
        launcher: tuple[str, ...],
        log_format: LogFormat,
    ) -> tuple[Event | None, int]:
        """Run the process to its end: its last event, and its exit status."""
        last: Event | None = None
        folder = Path(self.job.directory)
        async with TrainingProcess.launch(folder, launcher, log_format) as process:
            self._process = process
            try:
                await self._deliver_request()  # one that came while the process was launched
                async for event in process.events():
                    last = event
                    self._advance(event)
                    await on_event(event)
            finally:
                self._process, self.phase = None, Phase.CHECKING
                self._cancel_timer()
        assert process.exit_status is not None  # it has ended
        return last, process.exit_status

    def _advance(self, event: Event) -> None:
        match event:
            case Started():
                self.phase = Phase.TRAINING
            case Lowered():
                self.phase = Phase.STARTING  # with smaller batches it begins once more
            case Checking():
                self.phase = Phase.CHECKING

    @property
    def is_cancelled(self) -> bool:
        return self.requested is Request.CANCEL

    @property
    def is_pausing(self) -> bool:
        return self.requested is Request.PAUSE

    async def stop(self) -> None:
        """The bot stops: save after the step under way, and end."""
        await self._request(Request.STOP)

    async def pause(self) -> bool:
        """Save and end; False if the last step was taken."""
        if self.phase not in (Phase.STARTING, Phase.TRAINING):
            return False
        await self._request(Request.PAUSE)
        return True

    async def cancel(self) -> bool:
        """End without a checkpoint; False if the outcome is decided."""
        if self.phase is Phase.DECIDED:
            return False
        await self._request(Request.CANCEL)
        return True

    async def _request(self, request: Request) -> None:
        self.requested = max(self.requested, request)
        await self._deliver_request()

    async def _deliver_request(self) -> None:
        if self._process is None:
            return
        match self.requested:
            case Request.STOP:
                self._process.send("pause")
            case Request.PAUSE if self.phase is Phase.TRAINING:
                self._process.send("pause")
            case Request.PAUSE | Request.CANCEL:
                await self._process.kill()

    def hold(self) -> None:
        """Wait between two steps for HOLD_S, counted from the last call."""
        if self._process is None:
            return
        self._process.send("hold")
        self._cancel_timer()
        self._hold_timer = asyncio.get_running_loop().call_later(HOLD_S, self._end_hold)

    def _end_hold(self) -> None:
        if self._process is not None:
            self._process.send("go")

    def _cancel_timer(self) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()

"""Notices a worker that hangs: again and again it is asked for a sign of life.

Knows how long a silence may be. Does not know messages or processes: how to ask, and what to do
about a hang, is handed in.

Everything that the worker says is a sign, for only its main thread speaks, between two steps. One
that is stuck in a native call, or stopped, says nothing. One that is slow does: models are loaded
in threads of their own, and a step is bounded (`scheduler.PREFILL_BUDGET` tokens of prompts and a
token for each reply). One of gpt2-medium takes 0.7 s on two cores, so a machine that is a hundred
times slower still answers in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PING_INTERVAL_S = 5.0
"""Seconds between two questions."""
HANG_TIMEOUT_S = 90.0
"""Seconds of silence after which a worker is taken to hang."""


class Watchdog:
    """Watches one life of the worker.

    The silence is counted in pauses that this process has lived through, never as a difference of
    times. A pause that took much too long says that this process was itself stopped, or the whole
    machine asleep: then it counts for nothing, as the answer may be there already, unread.
    """

    def __init__(
        self,
        ask: Callable[[], None],
        on_hang: Callable[[], None],
        *,
        ping_s: float = PING_INTERVAL_S,
        hang_s: float = HANG_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._send_ping = ask
        self._on_hang = on_hang
        self._ping_s = ping_s
        self._hang_s = hang_s
        self._clock = clock
        self._sleep = sleep
        self._was_active = False

    def record_activity(self) -> None:
        """The worker said something."""
        self._was_active = True

    async def watch(self) -> None:
        """Ask, until there was no sign of life for too long."""
        silent_s = 0.0
        while silent_s < self._hang_s:
            self._was_active = False
            self._send_ping()
            asked = self._clock()
            await self._sleep(self._ping_s)
            if self._was_active:
                silent_s = 0.0
            elif self._clock() - asked < 2 * self._ping_s:
                silent_s += self._ping_s
        self._on_hang()

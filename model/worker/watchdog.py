"""Detects a worker that hangs, by pinging it and counting the silence.

Knows how long a silence may last. Does not know messages or processes: callbacks send the ping and
handle the hang.

Any event counts as a sign of life, since only the worker's main thread sends, between two steps. If
it is stuck in native code, or stopped, it is silent. A slow one is not: models load in other
threads, and a step is bounded (`scheduler.PREFILL_BUDGET` prompt tokens and one token per reply).
One of gpt2-medium takes 0.7 s on two cores, so a machine a hundred times slower is still in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PING_INTERVAL_S = 5.0
"""Seconds between two pings."""
HANG_TIMEOUT_S = 90.0
"""Seconds of silence after which a worker counts as hung."""


class Watchdog:
    """Watches one worker process.

    Silence is the sum of ping intervals without an event, never a difference of two times: if an
    interval took much too long, this process itself was stopped, or the machine suspended, and an
    answer may be waiting unread. Such an interval does not count.
    """

    def __init__(
        self,
        send_ping: Callable[[], None],
        on_hang: Callable[[], None],
        *,
        ping_s: float = PING_INTERVAL_S,
        hang_s: float = HANG_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._send_ping = send_ping
        self._on_hang = on_hang
        self._ping_s = ping_s
        self._hang_s = hang_s
        self._clock = clock
        self._sleep = sleep
        # Set by the client for each batch of events; a plain attribute, as it happens per token.
        self.saw_event = False

    async def watch(self) -> None:
        """Ping until the silence lasts too long, then call `on_hang`."""
        silent_s = 0.0
        while silent_s < self._hang_s:
            self.saw_event = False
            self._send_ping()
            sent = self._clock()
            await self._sleep(self._ping_s)
            if self.saw_event:
                silent_s = 0.0
            elif self._clock() - sent < 2 * self._ping_s:
                silent_s += self._ping_s
        self._on_hang()

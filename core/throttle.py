"""Rate limiting of repeated actions, such as log lines and progress messages."""

from __future__ import annotations

import time
from collections.abc import Callable


class Throttle:
    """Lets something happen at most once every `interval_s` seconds."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._next_at = float("-inf")

    def ready(self) -> bool:
        """Whether it may happen now; if so, the next interval begins."""
        now = self._clock()
        if now < self._next_at:
            return False
        self._next_at = now + self._interval_s
        return True

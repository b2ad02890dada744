"""Chat comes first: whoever waits too long for a reply to begin makes training give way.

Knows the event loop's clock. Does not know what gives way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnReplyStarted = Callable[[], None]
"""To be called when the reply begins."""


class Backpressure:
    """Calls `hold` when a reply has not begun after `slow_s` seconds (0: never)."""

    def __init__(self, slow_s: float, give_way: Callable[[], None]) -> None:
        self._slow_s = slow_s
        self._give_way = give_way

    @contextmanager
    def watch_wait(self) -> Iterator[OnReplyStarted]:
        """Somebody waits, at most until the end of the block."""
        if not self._slow_s:
            yield lambda: None
            return
        timer = asyncio.get_running_loop().call_later(self._slow_s, self._give_way)
        try:
            yield timer.cancel
        finally:
            timer.cancel()

"""How often something is said: once for each key (`Once`), or once per interval (`Throttle`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Once(Generic[Key]):
    """Remembers keys. Beyond `limit` it forgets the oldest, so its memory stays bounded."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._seen: dict[Key, None] = {}

    def first(self, key: Key) -> bool:
        """Whether the key is new; it is not from now on."""
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._limit:
            del self._seen[next(iter(self._seen))]
        return True

    def forget(self, key: Key) -> None:
        """Make the key new again."""
        self._seen.pop(key, None)


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

"""Once per interval."""

from __future__ import annotations

from core.throttle import Throttle


def test_once_per_interval() -> None:
    now = 0.0
    throttle = Throttle(60.0, clock=lambda: now)
    ready: list[float] = []
    for now in (0.0, 59.9, 60.0, 61.0, 500.0):
        if throttle.ready():
            ready.append(now)
    assert ready == [0.0, 60.0, 500.0]

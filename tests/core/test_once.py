"""Once for each key, and once per interval."""

from __future__ import annotations

from core.once import Once, Throttle


def test_once_for_each_key_until_it_is_forgotten() -> None:
    once: Once[str] = Once(limit=2)
    assert [once.first(key) for key in "aab"] == [True, False, True]
    once.forget("a")
    assert once.first("a")
    assert once.first("c"), "b, the oldest, is forgotten"
    assert [once.first(key) for key in "cab"] == [False, False, True]


def test_once_per_interval() -> None:
    now = 0.0
    throttle = Throttle(60.0, clock=lambda: now)
    ready: list[float] = []
    for now in (0.0, 59.9, 60.0, 61.0, 500.0):
        if throttle.ready():
            ready.append(now)
    assert ready == [0.0, 60.0, 500.0]

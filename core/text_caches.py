"""Caches keyed by what people said: they are dropped when somebody is to be forgotten."""

from __future__ import annotations

from collections.abc import Callable
from functools import _lru_cache_wrapper
from typing import TypeVar

ResultT = TypeVar("ResultT")

_clear: list[Callable[[], object]] = []


def keeps_texts(function: _lru_cache_wrapper[ResultT]) -> _lru_cache_wrapper[ResultT]:
    """Decorates a cached function whose arguments may be what people said."""
    on_drop(function.cache_clear)
    return function


def on_drop(clear: Callable[[], object]) -> None:
    """Call this, too, when texts are dropped."""
    _clear.append(clear)


def drop_texts() -> None:
    """Empty all these caches of this process."""
    for clear in _clear:
        clear()

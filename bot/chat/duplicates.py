"""What came already: after a lost connection Discord may send the same thing twice. Pure."""

from __future__ import annotations

MAX_IDS = 2000
"""Ids that are remembered: those of some minutes, even of a thousand servers."""


class Deduplicator:
    """The newest ids."""

    def __init__(self, most: int = MAX_IDS) -> None:
        self._max_ids = most
        self._ids: dict[int, None] = {}

    def is_new(self, id_: int) -> bool:
        """Whether an id comes for the first time; from now on it does not."""
        if id_ in self._ids:
            return False
        self._ids[id_] = None
        if len(self._ids) > self._max_ids:
            del self._ids[next(iter(self._ids))]
        return True

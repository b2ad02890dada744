"""Which replica a channel's requests go to: the one that has read it, unless that has much more to
do than another.

Knows names of replicas and how many requests each has under way. Imports no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

from cachetools import LRUCache

MAX_CHANNELS = 10_000
"""Channels whose replica is remembered."""


class Homes:
    """Where channels are at home. A replica answers `room` requests at once; the others wait."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._homes: LRUCache[str, tuple[int, str]] = LRUCache(MAX_CHANNELS)

    def rank(self, session: str, loads: Mapping[str, int], other_key: str = "") -> list[str]:
        """The replicas in the order in which they are to be asked, by their requests under way.

        A channel's `session` is that of `session_of`. The replica at the front is its home from now
        on, so that requests of the same moment go there too. Without a session, the order of those
        that have as much to do follows from `other_key`.
        """
        channel, moves = _parse(session)
        key = channel or other_key
        known_moves, home = self._homes.get(channel, (moves, ""))
        order = sorted(loads, key=lambda one: (loads[one], _weight(key, one)))
        if moves > known_moves and home in loads:  # it was lost there
            order.remove(home)
            order.append(home)
        elif home in loads and not self._is_overloaded(loads[home], loads[order[0]]):
            order.remove(home)
            order.insert(0, home)
        if order:
            self.settle(session, order[0])
        return order

    def settle(self, session: str, replica: str) -> None:
        """The channel is at home on this replica from now on: it has taken a request of it."""
        channel, moves = _parse(session)
        if channel:
            self._homes[channel] = moves, replica

    def _is_overloaded(self, load: int, least: int) -> bool:
        """Whether a request had better go elsewhere, though that replica reads the channel anew:
        here it would wait and there not, or here are so many more that each of them is slow."""
        return load >= self._room > least or load - least >= self._room / 2


def session_of(channel: int, moves: int) -> str:
    """A name for a channel that has lost its replica `moves` times; none for channel 0."""
    return f"{channel}-{moves}" if channel else ""


def _parse(session: str) -> tuple[str, int]:
    channel, _, moves = session.partition("-")
    return channel, int(moves or 0)


def _weight(channel: str, replica: str) -> int:
    """Rendezvous hashing (Thaler and Ravishankar 1998): among replicas with as much to do, a
    channel always comes to the same one, and each replica gets as many channels."""
    return crc32(f"{channel} {replica}".encode())

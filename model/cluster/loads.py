"""What each replica does and has done, counted where the answers of all of them come by."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cachetools import LRUCache

from model.cluster.messages import Began, ReplicaEvent
from model.worker.messages import Finished, Queued, ReplicaLoad, TextDelta

MAX_CHANNELS = 10_000
"""Channels whose last replica is remembered."""
MAX_REPLICAS = 64
"""Replicas that are remembered; the one that answered longest ago is forgotten."""


class Loads:
    """The loads of the replicas that have answered."""

    def __init__(self) -> None:
        self._loads: LRUCache[str, ReplicaLoad] = LRUCache(MAX_REPLICAS)
        self._last: LRUCache[int, str] = LRUCache(MAX_CHANNELS)

    def all(self) -> tuple[ReplicaLoad, ...]:
        """Of each replica, the one that was asked last at the end."""
        return tuple(self._loads.values())

    def change(self, replica: str, **differences: float) -> None:
        """Add to what is counted of a replica."""
        load = self._loads.get(replica) or ReplicaLoad(replica)
        more = {name: getattr(load, name) + value for name, value in differences.items()}
        self._loads[replica] = replace(load, **more)

    def count_channel(self, channel: int, replica: str) -> None:
        """Count whether a channel comes to the replica that it was at last."""
        last = self._last.get(channel)
        if channel:
            self._last[channel] = replica
        if last is not None:
            self.change(replica, **{"hits" if last == replica else "moves": 1})


class Tally:
    """Counts one request to a replica, from its events."""

    def __init__(self, loads: Loads, channel: int) -> None:
        self._loads = loads
        self._channel = channel
        self._sent_at = asyncio.get_running_loop().time()
        self._replica: str | None = None
        self._waits = self._has_begun = False

    def see(self, event: ReplicaEvent) -> None:
        """Count an event."""
        match event:
            case Began(replica=replica):
                self._replica = replica
                self._change(running=1)
                self._loads.count_channel(self._channel, replica)
            case Queued():
                self._wait(True)
            case TextDelta():
                self._wait(False)
                self._see_first_text()
            case Finished(new_tokens=tokens):
                self._change(replies=1, tokens=tokens)
                self.end()  # whoever reads the event may look at the load at once

    def end(self) -> None:
        """The request has ended, however. May be called again."""
        self._wait(False)
        self._change(running=-1)
        self._replica = None

    def _see_first_text(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            seconds = asyncio.get_running_loop().time() - self._sent_at
            self._change(first_texts=1, first_text_s=seconds)

    def _wait(self, waits: bool) -> None:
        if waits != self._waits:
            self._waits = waits
            self._change(waiting=1 if waits else -1)

    def _change(self, **differences: float) -> None:
        if self._replica is not None:
            self._loads.change(self._replica, **differences)

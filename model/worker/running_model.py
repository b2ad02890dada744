"""Which model the worker was running when it died, for the bot to read afterwards.

A number in shared memory: what a dying process wrote to its pipe may be lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from multiprocessing.context import SpawnContext


class RunningModel:
    """The model that the worker's main thread runs, as a checksum of its source.

    The worker sets it before each step, which costs less than a microsecond.
    """

    def __init__(self, context: SpawnContext) -> None:
        self._checksum = context.RawValue("I", 0)

    def begin(self, source: str) -> None:
        self._checksum.value = zlib.crc32(source.encode())

    def clear(self) -> None:
        """The worker waits for commands."""
        self._checksum.value = 0

    def among(self, sources: Iterable[str]) -> set[str]:
        """The one of these that is running; empty if none is."""
        running = self._checksum.value
        return {source for source in sources if zlib.crc32(source.encode()) == running}

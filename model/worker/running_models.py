"""Which models the worker was running when it died, for the bot to read afterwards.

Numbers in shared memory: what a dying process wrote to its pipe may be lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from multiprocessing.context import SpawnContext


class RunningModels:
    """The models that the worker's main thread runs at this moment, as checksums of their sources:
    in one step, those of a batch of adapters.

    The worker sets them before each step, which takes some microseconds.
    """

    def __init__(self, context: SpawnContext, at_once: int) -> None:
        self._checksums = context.RawArray("I", at_once)

    def begin(self, sources: Collection[str]) -> None:
        checksums = [zlib.crc32(source.encode()) for source in sources]
        self._checksums[:] = checksums + [0] * (len(self._checksums) - len(checksums))

    def clear(self) -> None:
        """The worker waits for commands."""
        self.begin([])

    def among(self, sources: Iterable[str]) -> set[str]:
        """Those of these that are running."""
        running = set(self._checksums)
        return {source for source in sources if zlib.crc32(source.encode()) in running}

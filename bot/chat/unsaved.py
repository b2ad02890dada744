"""When a turn cannot be written down: the reply is given all the same, and says so.

Knows the store's errors. Does not know what was to be written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from core.errors import DiskFull, StoreError
from core.once import Throttle
from i18n.phrase import Phrase, phrase

log = logging.getLogger(__name__)

DISK_FULL = phrase("I cannot write this down: the disk is full.")
WRITE_FAILED = phrase("I cannot write this down. The operator can read why in the log.")
LOG_INTERVAL_S = 60.0
"""Seconds between two lines about it in the log."""


class WriteFailures:
    """Says what people should know, always, and tells the log once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._logging = Throttle(LOG_INTERVAL_S, clock)

    def report(self, error: StoreError) -> Phrase:
        """The small line under a reply that, or whose question, was not recorded."""
        if self._logging.ready():
            log.error("replies are given, but not recorded: %s", error)
        return DISK_FULL if isinstance(error, DiskFull) else WRITE_FAILED

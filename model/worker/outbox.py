"""What the worker says to the bot, sent together where that keeps nobody waiting."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from multiprocessing.connection import Connection

from model.worker.messages import TextDelta, WorkerEvent

COALESCE_S = 0.03
"""Seconds for which pieces of replies are collected; nobody reads faster."""


class Outbox:
    """A pipe, and the pieces of replies that it does not send yet.

    A message for each token would wake the bot so often that it takes its core from the model.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._events: list[WorkerEvent] = []
        self._streaming_ids: set[int] = set()
        self._last_flush = 0.0

    def put(self, report: WorkerEvent) -> None:
        """Send a report: a piece of a reply with the next ones, all else and first pieces now."""
        if isinstance(report, TextDelta):
            if report.request_id in self._streaming_ids:
                self._merge_delta(report)
                return
            self._streaming_ids.add(report.request_id)
        else:
            self._streaming_ids.discard(getattr(report, "request_id", 0))
        self._events.append(report)
        self.flush()

    def _merge_delta(self, piece: TextDelta) -> None:
        for n, other in enumerate(self._events):
            if isinstance(other, TextDelta) and other.request_id == piece.request_id:
                self._events[n] = replace(piece, text=other.text + piece.text)
                return
        self._events.append(piece)

    def flush_due(self) -> None:
        """Send pieces that have waited long enough."""
        if self._events and time.monotonic() - self._last_flush >= COALESCE_S:
            self.flush()

    def flush(self) -> None:
        """Send all; a parent that is gone needs none."""
        with contextlib.suppress(BrokenPipeError, OSError):
            self._connection.send(tuple(self._events))
        self._events.clear()
        self._last_flush = time.monotonic()

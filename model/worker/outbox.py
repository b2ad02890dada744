"""Sends the worker's events to the bot, batching text deltas."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from multiprocessing.connection import Connection

from model.worker.messages import TextDelta, WorkerEvent

COALESCE_S = 0.03
"""Seconds for which text deltas are collected; nobody reads faster."""


class Outbox:
    """A pipe with a buffer of text deltas.

    A message per token would wake the bot so often that it takes CPU time from the model.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._events: list[WorkerEvent] = []
        self._streaming_ids: set[int] = set()
        self._last_flush = 0.0

    def put(self, event: WorkerEvent) -> None:
        """Send an event: a delta after the first of its reply later, all else at once."""
        if isinstance(event, TextDelta):
            if event.request_id in self._streaming_ids:
                self._merge_delta(event)
                return
            self._streaming_ids.add(event.request_id)
        else:
            self._streaming_ids.discard(getattr(event, "request_id", 0))
        self._events.append(event)
        self.flush()

    def _merge_delta(self, piece: TextDelta) -> None:
        for n, other in enumerate(self._events):
            if isinstance(other, TextDelta) and other.request_id == piece.request_id:
                self._events[n] = replace(piece, text=other.text + piece.text)
                return
        self._events.append(piece)

    def flush_due(self) -> None:
        """Send the buffer if it is COALESCE_S old."""
        if self._events and time.monotonic() - self._last_flush >= COALESCE_S:
            self.flush()

    def flush(self) -> None:
        """Send the buffer; if the parent is gone, drop it."""
        with contextlib.suppress(BrokenPipeError, OSError):
            self._connection.send(tuple(self._events))
        self._events.clear()
        self._last_flush = time.monotonic()

"""One reply out of several attempts: when a replica is lost, another one makes the reply again, and
what was shown already is not shown twice.

Knows the events of a reply. Does not know replicas: an attempt is an iterator of events. The seed
of a request is fixed, so each attempt gives the same text.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from i18n.phrase import phrase
from model.cluster.messages import Crashed, ReplicaEvent
from model.cluster.options import GIVE_UP_S
from model.worker.messages import Failed, Finished, Queued, TextDelta

log = logging.getLogger(__name__)

PAUSE_S = 0.1
"""Seconds before the next attempt, so that a cluster that refuses at once is not flooded."""
LOST = phrase("The machine that was answering is gone. Please ask again.")
UNANSWERED = phrase("The cluster does not answer. Please ask again in a moment.")

Attempt = Callable[[int], AsyncGenerator[ReplicaEvent, None]]
"""Begins the attempt of a number, counted from 0."""


class ReplicaLost(Exception):
    """A replica gives no (more) answer; another one may."""


class _Diverged(Exception):
    """Another attempt says something else than what was shown."""


async def unbroken(
    begin: Attempt, give_up_s: float = GIVE_UP_S, pause_s: float = PAUSE_S
) -> AsyncGenerator[Queued | TextDelta | Finished | Failed | Crashed, None]:
    """The events of a reply, whose last is Finished, Failed or Crashed. After that, the attempt is
    read to its end."""
    shown, deadline = _Shown(), 0.0
    for number in itertools.count():
        try:
            async with aclosing(begin(number)) as events:
                async for event in shown.new_of(events):
                    yield event
            if shown.is_whole:
                return
            raise ReplicaLost("its answer had no end")
        except _Diverged:
            yield Crashed(LOST)
            return
        except ReplicaLost as e:
            if shown.is_whole:
                return
            log.warning("an attempt at a reply was lost: %s", e)
            deadline = deadline or time.monotonic() + give_up_s
            if time.monotonic() >= deadline:
                yield Crashed(LOST if shown.text else UNANSWERED)
                return
            await asyncio.sleep(pause_s)


class _Shown:
    """What was shown so far, of all attempts; `is_whole`: to the end."""

    def __init__(self) -> None:
        self.text = ""
        self.is_whole = False

    async def new_of(
        self, events: AsyncGenerator[ReplicaEvent, None]
    ) -> AsyncGenerator[Queued | TextDelta | Finished | Failed | Crashed, None]:
        """What an attempt adds to what was shown. Raises _Diverged if it says something else."""
        said = ""
        async for event in events:
            match event:
                case TextDelta(text=text):
                    said += text
                    if new := self._beyond(said):
                        yield replace(event, text=new)
                case Queued():
                    if not self.text:
                        yield event
                case Finished():
                    self.is_whole = True
                    yield self._whole(event)
                case Failed() | Crashed():
                    self.is_whole = True
                    yield event

    def _beyond(self, said: str) -> str:
        shown = self.text
        if not (said.startswith(shown) or shown.startswith(said)):
            raise _Diverged
        if len(said) > len(shown):
            self.text = said
        return said[len(shown) :]

    def _whole(self, finished: Finished) -> Finished:
        """An attempt that was stopped early may have said less than was shown."""
        shown = self.text.rstrip()
        return finished if len(finished.text) >= len(shown) else replace(finished, text=shown)

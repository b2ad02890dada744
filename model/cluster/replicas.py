"""The replicas as the gateway sees them: one of them, the one that knows a channel, or all.

Knows Serve's handle and what it raises. Does not know what is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from cachetools import LRUCache

from model.cluster.affinity import session_of
from model.cluster.options import SILENCE_S
from model.cluster.retry import ReplicaLost

log = logging.getLogger(__name__)

MAX_MOVED = 10_000
"""Channels that are remembered to have left a lost replica."""


class Replicas:
    """Calls methods of `model.cluster.replica.Replica`.

    A replica that gives no sign of life for `silence_s` seconds is lost: it gives one each BEAT_S.
    The requests of a channel go to the replica that has read it, as long as that has room, and
    since a loss to another one.
    """

    def __init__(self, handle: Any, *, silence_s: float = SILENCE_S) -> None:
        self._handle = handle
        self._stream = handle.options(stream=True)
        self._silence_s = silence_s
        self._moves: LRUCache[int, int] = LRUCache(MAX_MOVED)
        self.heard_at = time.monotonic()
        """When anything of the cluster last gave a sign of life."""

    def affinity(self, channel: int) -> str:
        """What the router knows a channel by; none for 0."""
        return session_of(channel, self._moves.get(channel, 0))

    def move(self, channel: int) -> None:
        """Let another replica have the channel: its own was lost, which Serve learns later."""
        if channel:
            self._moves[channel] = self._moves.get(channel, 0) + 1

    async def stream(
        self, method: str, *args: Any, affinity: str = ""
    ) -> AsyncGenerator[Any, None]:
        """What a method yields. Raises ReplicaLost also if it is silent for too long."""
        call = getattr(self._stream.options(session_id=affinity), method)
        answer, is_whole = call.remote(*args), False
        try:
            while True:
                try:
                    async with asyncio.timeout(self._silence_s):
                        item = await anext(answer)
                except StopAsyncIteration:
                    is_whole = True
                    return
                self.heard_at = time.monotonic()
                yield item
        except (Exception, asyncio.CancelledError) as e:
            raise _loss(e) from e
        finally:
            if not is_whole:
                answer.cancel()

    async def one(
        self, method: str, *args: Any, affinity: str = "", timeout_s: float | None = None
    ) -> Any:
        """What a method of one replica returns. Raises ReplicaLost."""
        call = getattr(self._handle.options(session_id=affinity), method)
        answer = call.remote(*args)
        try:
            async with asyncio.timeout(timeout_s or self._silence_s):
                found = await answer
        except (Exception, asyncio.CancelledError) as e:
            answer.cancel()
            raise _loss(e) from e
        self.heard_at = time.monotonic()
        return found

    async def all(self, method: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        """What a method returns on each replica that answers in time. Raises ReplicaLost if there
        is none."""
        try:
            calls = await self._call_all(method, args)
        except (Exception, asyncio.CancelledError) as e:
            raise _loss(e) from e
        answers = [asyncio.ensure_future(one.get_async()) for one in calls]
        done, late = await asyncio.wait(answers, timeout=timeout_s or self._silence_s)
        for one in late:
            one.cancel()
        lost = [one for one in done if one.cancelled() or one.exception() is not None]
        if late or lost:
            log.warning("%d replicas could not be told: %s", len(late) + len(lost), method)
        return [one.result() for one in done if one not in lost]

    async def _call_all(self, method: str, args: Sequence[Any]) -> Sequence[Any]:
        """The calls that are under way. Serve's own `results_async` would give none of the answers
        if one replica gave none."""
        async with asyncio.timeout(self._silence_s):
            found = await self._handle.broadcast(method, *args)._fetch_replica_results_async()
        return list(found)


def _loss(error: BaseException) -> BaseException:
    """ReplicaLost for what Ray raises when there is no answer; other errors as they are.

    A request that ends with its replica looks like a task that was cancelled."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    if isinstance(error, TimeoutError):
        return ReplicaLost("it is silent")
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return error if task is None or task.cancelling() else ReplicaLost("it was ended")
    if isinstance(error, RayError | RayServeException):
        return ReplicaLost(f"{type(error).__name__}: {str(error)[:200]}")
    return error

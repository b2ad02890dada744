"""People who ask: replies with their times, loads that go on, and how late the event loop is."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from core.records import Message, Role
from model.backend import GenerationBackend
from model.errors import ModelError
from model.sampling import SamplingParams
from model.worker.messages import Finished, TextDelta

QUESTION = "Hello, how are you today?"
LAG_INTERVAL_S = 0.01
"""Between two looks at how late the loop is."""


@dataclass(slots=True)
class Asked:
    """A request for a reply. Times are `time.perf_counter`; `shown` is what was streamed, `final`
    the whole text of the last message."""

    channel: int
    params: SamplingParams
    began: float
    first: float | None = None
    ended: float | None = None
    shown: str = ""
    final: str | None = None
    error: str | None = None

    @property
    def first_ms(self) -> float:
        return 1000 * ((self.first or self.ended or self.began) - self.began)

    @property
    def whole_ms(self) -> float:
        return 1000 * ((self.ended or self.began) - self.began)

    @property
    def lost(self) -> bool:
        """There was no reply, or only a part of one."""
        return self.final is None

    @property
    def doubled(self) -> bool:
        """What was shown is not the reply: something came twice, or is missing in between."""
        return self.final is not None and self.shown.strip() != self.final.strip()


async def ask(
    backend: GenerationBackend, source: str, channel: int, params: SamplingParams
) -> Asked:
    """One question and its reply."""
    asked = Asked(channel, params, time.perf_counter())
    pieces = backend.generate(
        source, (Message(Role.USER, QUESTION),), params, channel=channel, scope=channel
    )
    try:
        async for piece in pieces:
            match piece:
                case TextDelta(text=text):
                    asked.first = asked.first or time.perf_counter()
                    asked.shown += text
                case Finished(text=text):
                    asked.final = text
    except ModelError as e:
        asked.error = str(e)
    asked.ended = time.perf_counter()
    return asked


@dataclass(slots=True)
class Crowd:
    """Each of `people` asks in a channel of their own, again as soon as they have the reply."""

    backend: GenerationBackend
    source: str
    people: int
    new_tokens: int
    seeds: int = 1 << 30
    """They are counted from 1 to this, again and again."""
    asked: list[Asked] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """They go on until the end of the block; then the last replies are waited for."""
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for person in range(1, self.people + 1):
                tasks.create_task(self._person(person, enough.is_set))
            try:
                yield
            finally:
                enough.set()

    async def _person(self, channel: int, is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            params = SamplingParams(
                max_new_tokens=self.new_tokens,
                temperature=0.7,
                seed=1 + next(self._numbers) % self.seeds,
            )
            self.asked.append(await ask(self.backend, self.source, channel, params))

    def per_second(self, began: float, ended: float) -> float:
        """Replies that came between two moments, a second; a reply that began before counts for its
        share, so that few long replies are no accident."""
        shares = (
            max(0.0, min(one.ended, ended) - max(one.began, began)) / (one.ended - one.began)
            for one in self.asked
            if one.ended is not None and not one.lost
        )
        return sum(shares) / (ended - began)


class LoopLag:
    """How late the event loop wakes who sleeps, in milliseconds."""

    def __init__(self) -> None:
        self._late_ms: list[float] = []

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self._late_ms.append(1000 * max(0.0, loop.time() - due))

    def figures(self) -> dict[str, float]:
        return spread(self._late_ms)


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the largest."""
    if not values:
        return dict.fromkeys(("p50", "p99", "max"), 0.0)
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(p99, 2),
        "max": round(ordered[-1], 2),
    }

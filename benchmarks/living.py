"""What a worker does over time: later messages of a channel, new weights, hours of talk."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from benchmarks.folders import change_weights, prompts
from core.records import Message, Role
from model.sampling import SamplingParams
from model.worker.client import WorkerClient
from model.worker.messages import Finished, TextDelta

CONTEXT = 5
"""Messages that the model sees, as the bot's default is."""
STREAMS = 4
"""Conversations that go on while weights change."""
SOAK_STREAMS = 8
SOAK_PARTS = 10
RENEW_S = 1.0
"""Seconds between two changes of what people talk with, in a soak."""

_channels = count(1000)


@dataclass(frozen=True, slots=True)
class Effort:
    """`later` messages of a channel are measured, `pause_s` seconds apart (what a person needs at
    least to read and write); speed is measured for `before_s` seconds before weights change."""

    later: int = 20
    pause_s: float = 0.6
    before_s: float = 5.0


SHORT = Effort(later=2, pause_s=0.1, before_s=1.0)
"""To see that all of it runs."""


async def second_message(
    client: WorkerClient, folder: str, prompt_tokens: int, effort: Effort
) -> dict[str, float]:
    """Medians of the first token's wait: of later messages of a channel, and of the same prompts in
    a channel of which nothing is known. A prompt is five messages of equal length."""
    channel, talk = next(_channels), list[Message]()
    warm, cold = [], []
    text = prompts(1, round(1.25 * prompt_tokens / CONTEXT))[0]
    params = SamplingParams(max_new_tokens=max(1, prompt_tokens // CONTEXT))
    for n in range(effort.later + CONTEXT):
        talk = [*talk, Message(Role.USER, f"{n % 10}{text[1:]}")][-CONTEXT:]
        apart, _ = await _first_token(client, folder, talk, params, 0)
        mine, reply = await _first_token(client, folder, talk, params, channel)
        talk = [*talk, Message(Role.ASSISTANT, reply)][-CONTEXT:]
        client.prefetch(folder, talk[-CONTEXT + 1 :], channel)
        await asyncio.sleep(effort.pause_s)
        if n >= CONTEXT:
            warm.append(mine)
            cold.append(apart)
    return {
        "second_message_ttft_ms": round(1000 * statistics.median(warm), 1),
        "cold_ttft_ms": round(1000 * statistics.median(cold), 1),
    }


async def _first_token(
    client: WorkerClient, folder: str, talk: list[Message], params: SamplingParams, channel: int
) -> tuple[float, str]:
    began, first, text = time.perf_counter(), None, ""
    async for piece in client.generate(folder, talk, params, channel=channel):
        first = first or time.perf_counter()
        if isinstance(piece, Finished):
            text = piece.text
    assert first is not None
    return first - began, text


# --- new weights ---------------------------------------------------------------------------------


class Streams:
    """Conversations that go on; for each reply, when it had how many tokens."""

    def __init__(
        self, client: WorkerClient, models: str | Sequence[str], number: int, new_tokens: int
    ) -> None:
        self._client = client
        self._models = [models] if isinstance(models, str) else models
        self._params = SamplingParams(max_new_tokens=new_tokens)
        self._number = number
        self.replies: list[list[tuple[float, int]]] = []

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._talk(n)) for n in range(self._number)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if not isinstance(result, asyncio.CancelledError):
                raise RuntimeError("a conversation broke off") from result

    async def _talk(self, n: int) -> None:
        channel, talk = next(_channels), list[Message]()
        text, model = prompts(self._number, 40)[n], self._models[n % len(self._models)]
        while True:
            talk = [*talk, Message(Role.USER, text)][-CONTEXT:]
            self.replies.append(times := [])
            pieces = self._client.generate(model, talk, self._params, channel=channel)
            async for piece in pieces:
                if isinstance(piece, TextDelta | Finished):
                    times.append((time.perf_counter(), piece.new_tokens))
                if isinstance(piece, Finished):
                    talk = [*talk, Message(Role.ASSISTANT, piece.text)][-CONTEXT:]
            self._client.prefetch(model, talk[-CONTEXT + 1 :], channel)

    def tokens_per_s(self, start: float, end: float) -> float:
        said = 0
        for times in self.replies:
            for (_, before), (at, now) in pairwise([(0.0, 0), *times]):
                said += now - before if start <= at < end else 0
        return said / (end - start)

    def longest_pause(self, start: float, end: float) -> float:
        """Seconds between two pieces of one reply."""
        gaps = [
            b - a
            for times in self.replies
            for (a, _), (b, _) in pairwise(times)
            if start <= b < end
        ]
        return max(gaps, default=0.0)


async def swap(
    client: WorkerClient, folder: str, new_tokens: int, effort: Effort
) -> dict[str, Any]:
    """Other weights for the model that people are talking with."""
    await asyncio.to_thread(change_weights, Path(folder))
    streams = Streams(client, folder, STREAMS, new_tokens)
    async with streams.going_on():
        await asyncio.sleep(1)
        began = time.perf_counter()
        await asyncio.sleep(effort.before_s)
        changed = time.perf_counter()
        memory = asyncio.create_task(_most_memory(client.pid))
        await client.load(folder)
        loaded = time.perf_counter()
        await asyncio.sleep(1)
        memory.cancel()
        ended = time.perf_counter()
    before = streams.tokens_per_s(began, changed)
    return {
        "streams": STREAMS,
        "seconds": round(loaded - changed, 2),
        "speed_kept": round(streams.tokens_per_s(changed, loaded) / before, 3),
        "longest_pause_ms": round(1000 * streams.longest_pause(changed, ended)),
        "pause_before_ms": round(1000 * streams.longest_pause(began, changed)),
        "memory_mb": await memory,
    }


async def _most_memory(pid: int | None) -> float | None:
    most = None
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            now = memory_mb(pid, children=True)
            most = now if most is None or now is None else max(most, now)
            await asyncio.sleep(0.05)
    return most


def memory_mb(pid: int | None, *, children: bool = False) -> float | None:
    """Memory of a process (and of those that it started), where Linux tells it."""
    status = Path(f"/proc/{pid}/status")
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
        tasks = Path(f"/proc/{pid}/task").iterdir()
        started = [one for task in tasks for one in (task / "children").read_text().split()]
    except OSError:
        return None
    own = sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    below = [memory_mb(int(one)) or 0 for one in started] if children else []
    return round(own + sum(below), 1)


# --- hours ---------------------------------------------------------------------------------------


async def _nothing() -> None:
    """What changes where nothing does."""


@contextlib.asynccontextmanager
async def _again_and_again(renew: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def renewing() -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await renew()

    task = asyncio.create_task(renewing())
    try:
        yield
        if task.done():
            task.result()  # why it ended
    finally:
        task.cancel()


async def soak(
    client: WorkerClient,
    models: str | Sequence[str],
    seconds: float,
    new_tokens: int,
    say: Callable[[str], None],
    renew: Callable[[], Awaitable[None]] = _nothing,
) -> list[dict[str, Any]]:
    """Talk for so long, while `renew` is called every RENEW_S seconds; tokens a second and the
    worker's memory in each tenth of it."""
    streams = Streams(client, models, SOAK_STREAMS, new_tokens)
    parts: list[dict[str, Any]] = []
    async with streams.going_on(), _again_and_again(renew):
        for _ in range(SOAK_PARTS):
            began = time.perf_counter()
            await asyncio.sleep(seconds / SOAK_PARTS)
            speed = streams.tokens_per_s(began, time.perf_counter())
            parts.append({"tok_s": round(speed, 1), "memory_mb": memory_mb(client.pid)})
            say(f"{parts[-1]['tok_s']} tokens/s, {parts[-1]['memory_mb']} MB")
            del streams.replies[: -2 * SOAK_STREAMS]
    return parts

"""A model of fixed step time in place of the worker: how a cluster scales beyond this machine's
cores. It costs next to no computation, so that replicas may be many; all around it is the real
thing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from core.records import Message
from model.sampling import FinishReason, SamplingParams
from model.settings import WorkerSettings
from model.worker.messages import Finished, ModelInfo, Queued, Ready, Rendered, TextDelta

STEP_S = 0.05
"""Seconds of a decode step, whatever the batch: about what gpt2-medium takes on a few cores."""
VERSION_FILE = "generation_config.json"
"""Of a model's folder; its size is in each word, so that a reply shows which weights made it."""


@dataclass(slots=True)
class _Reply:
    params: SamplingParams
    version: str
    made: int = 0
    pieces: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)


class SimulatedWorker:
    """A GenerationBackend that writes one word a step for each of `max_sequences` replies; the
    others wait. Words depend on the seed and on the model's files alone."""

    def __init__(
        self, settings: WorkerSettings | None = None, *, embedded: str = "", step_s: float = STEP_S
    ) -> None:
        self._settings, self._embedded, self._step_s = (
            settings or WorkerSettings(),
            embedded,
            step_s,
        )
        self._running: list[_Reply] = []
        self._waiting: deque[_Reply] = deque()
        self._wake = asyncio.Event()
        self._steps: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._versions: dict[str, str] = {}
        self.models: Mapping[str, ModelInfo] = {}
        self.quarantined: Mapping[str, str] = {}
        self.ready: Ready | None = None
        self.pid: int | None = None
        self.restarts = 0

    @classmethod
    def of(cls, step_s: float) -> Callable[..., SimulatedWorker]:
        """A constructor that takes what WorkerClient's does, for another step time."""
        return partial(cls, step_s=step_s)

    @property
    def num_pending(self) -> int:
        return len(self._running) + len(self._waiting)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> Ready:
        info = await self.load(self._embedded)
        self._steps = asyncio.create_task(self._step_forever())
        self.ready = Ready(0, "simulated", "fp32", info)
        return self.ready

    async def start_with_backoff(self) -> None:
        await self.start()

    async def stop(self) -> None:
        if self._steps is not None:
            self._steps.cancel()

    async def load(self, source: str) -> ModelInfo:
        self._versions[source] = _version(Path(source))
        info = ModelInfo(source, 0, 1024, 50257, "fp32", 0.0)
        self.models = {**self.models, source: info}
        return info

    async def generate(
        self,
        source: str,
        messages: Sequence[Message],
        params: SamplingParams,
        *,
        channel: int = 0,
        scope: int = 0,
    ) -> AsyncGenerator[Queued | TextDelta | Finished, None]:
        if source not in self._versions:
            await self.load(source)
        number, began, first_s, text = next(self._numbers), time.monotonic(), None, ""
        reply = _Reply(params, self._versions[source])
        if len(self._running) >= self._settings.max_sequences:
            self._waiting.append(reply)
            yield Queued(number, len(self._waiting))
        else:
            self._running.append(reply)
        self._wake.set()
        try:
            while (piece := await reply.pieces.get()) is not None:
                first_s = first_s or time.monotonic() - began
                text += piece
                yield TextDelta(number, piece, reply.made)
            seconds = time.monotonic() - began
            yield Finished(
                number,
                text,
                FinishReason.LENGTH,
                len(messages),
                reply.made,
                params.seed or 0,
                seconds,
                0,
                first_s,
            )
        finally:
            for group in (self._running, self._waiting):
                if reply in group:
                    group.remove(reply)

    async def _step_forever(self) -> None:
        """Steps at even times; what all replies of a batch get takes one step."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            while self._waiting and len(self._running) < self._settings.max_sequences:
                self._running.append(self._waiting.popleft())
            if not self._running:
                self._wake.clear()
                await self._wake.wait()
                due = loop.time()
            due = max(due + self._step_s, loop.time())
            batch = list(self._running)
            await asyncio.sleep(due - loop.time())
            for reply in batch:
                self._step(reply)

    def _step(self, reply: _Reply) -> None:
        reply.pieces.put_nowait(f"{reply.version}/{reply.params.seed or 0}/{reply.made} ")
        reply.made += 1
        if reply.made == reply.params.max_new_tokens and reply in self._running:
            self._running.remove(reply)
            reply.pieces.put_nowait(None)

    async def render(
        self, source: str, messages: Sequence[Message], max_new_tokens: int
    ) -> Rendered:
        raise NotImplementedError("a simulated model has no prompt")

    def abort(self, request_id: int) -> None:
        """Nobody stops a reply here."""

    def prefetch(self, source: str, messages: Sequence[Message], channel: int) -> None:
        """It reads nothing."""

    def drop_caches(self) -> None:
        """It has none."""

    async def ping(self, timeout_s: float = 5.0) -> float:
        return 0.0


def whole_reply(version: str, params: SamplingParams) -> str:
    """What the model of this version says."""
    return "".join(f"{version}/{params.seed or 0}/{n} " for n in range(params.max_new_tokens))


def _version(folder: Path) -> str:
    file = folder / VERSION_FILE
    return str(file.stat().st_size) if file.exists() else "0"

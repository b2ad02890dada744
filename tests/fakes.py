"""A worker's client whose replies the test decides; everything else in the tests is real.

`tests/model/worker/test_client_contract.py` holds it to the same contract as the real one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from core.records import Message
from model.errors import LoadFailed
from model.registry import EMBEDDED_FOLDER
from model.sampling import FinishReason, SamplingParams
from model.worker.messages import Finished, ModelInfo, Queued, Ready, Rendered, TextDelta

Answer = Callable[[Sequence[Message]], str]


def facts(source: str) -> ModelInfo:
    return ModelInfo(source, 1000, 256, 4096, "int8", 0.1)


class Gate(asyncio.Event):
    """An event on which each who waits can be let through alone."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Event] = {}

    async def pass_through(self, number: int) -> None:
        """Wait until it is set, or `let` is called."""
        if self.is_set():
            return
        opened = self._waiting[number] = asyncio.Event()
        try:
            await opened.wait()
        finally:
            del self._waiting[number]

    def set(self) -> None:
        super().set()
        for opened in self._waiting.values():
            opened.set()

    def let(self, number: int) -> None:
        if number in self._waiting:
            self._waiting[number].set()


async def as_it_is(wait: Coroutine[Any, Any, None]) -> None:
    await wait


class FakeWorker:
    """Answers with `answer(messages)`, word by word.

    While `gate` is closed (`gate.clear()`), replies wait before their word number `gate_at` (0: the
    first), unless they are stopped; those that begin while it is `silent` say nothing before it.
    `heard` keeps what each request saw, `asked` its settings; `spoken` words were said in all.
    Sources in `broken` cannot be loaded. `park` waits for the gate, and may tell others so.
    """

    def __init__(
        self, answer: Answer = lambda messages: f"you said {messages[-1].content}"
    ) -> None:
        self.answer = answer
        self.gate = Gate()
        self.gate.set()
        self.gate_at = 0
        self.silent = False
        self.asked: list[SamplingParams] = []
        self.heard: list[tuple[str, list[Message]]] = []
        self.models: dict[str, ModelInfo] = {str(EMBEDDED_FOLDER): facts(str(EMBEDDED_FOLDER))}
        self.broken: dict[str, str] = {}
        self.quarantined: dict[str, str] = {}
        self.failure: Exception | None = None
        self.prepared: dict[int, tuple[str, list[Message]]] = {}
        self.running = 0
        self.most_running = 0
        self.spoken = 0
        self._changed = asyncio.Event()
        self._numbers = itertools.count(1)
        self._aborted: set[int] = set()
        self.park: Callable[[Coroutine[Any, Any, None]], Awaitable[None]] = as_it_is
        self.pid: int | None = None
        self.restarts = 0
        self.ready: Ready | None = Ready(1, "cpu", "fp32", facts(str(EMBEDDED_FOLDER)))

    async def start(self) -> Ready:
        assert self.ready is not None
        return self.ready

    @property
    def num_pending(self) -> int:
        return self.running

    async def stop(self) -> None:
        self.gate.set()

    async def load(self, source: str) -> ModelInfo:
        if source in self.broken:
            raise LoadFailed(self.broken[source])
        self.models[source] = facts(source)
        self._changed.set()
        return self.models[source]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true that a request or a load changes."""
        while not true():
            self._changed.clear()
            await self._changed.wait()

    async def generate(
        self,
        source: str,
        messages: Sequence[Message],
        params: SamplingParams,
        *,
        channel: int = 0,
        scope: int = 0,
    ) -> AsyncGenerator[Queued | TextDelta | Finished, None]:
        self.heard.append((source, list(messages)))
        self.asked.append(params)
        number, silent = next(self._numbers), self.silent
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self._changed.set()
        try:
            if not self.gate.is_set() and self.running > 1 and not silent:
                yield Queued(number, self.running - 1)
            words: list[str] = []
            for n, word in enumerate(self.answer(messages).split(" ")):
                if n == (0 if silent else self.gate_at) and number not in self._aborted:
                    await self.park(self.gate.pass_through(number))
                if self.failure is not None:
                    raise self.failure
                if number in self._aborted:
                    break
                words.append(word)
                self.spoken += 1
                yield TextDelta(number, f" {word}" if n else word)
            reason = FinishReason.ABORTED if number in self._aborted else FinishReason.END
            seed = params.seed or 0
            text = " ".join(words)
            yield Finished(number, text, reason, 10, len(words), seed, 0.01, first_token_s=0.005)
        finally:
            self.running -= 1

    async def ping(self, timeout_s: float = 5.0) -> float:
        return 0.001

    def abort(self, request_id: int) -> None:
        self._aborted.add(request_id)
        self.gate.let(request_id)

    def prefetch(self, source: str, messages: Sequence[Message], channel: int) -> None:
        self.prepared[channel] = (source, list(messages))

    def drop_caches(self) -> None:
        self.prepared.clear()

    async def render(
        self, source: str, messages: Sequence[Message], max_new_tokens: int
    ) -> Rendered:
        text = "".join(f"<|{m.role}|>{m.content}" for m in messages)
        counts = tuple(len(m.content.split()) for m in messages)
        return Rendered(1, text, tuple(messages), counts, sum(counts) + 1, 196, 0, False)

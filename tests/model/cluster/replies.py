"""Replies that are followed piece by piece, and chats that go on whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from core.records import Message, Role
from model.backend import GenerationBackend
from model.cluster.fallback import LOCAL_IDS
from model.errors import WorkerDied
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.worker.messages import Finished, TextDelta

HELLO = [Message(Role.USER, "Hello, how are you today?")]
TINY = str(EMBEDDED_FOLDER)
REPLY_S = 90.0
"""Seconds in which a reply ends, however that is."""
READING_S = 0.3
"""Seconds for which somebody reads a reply before they ask again: whoever is to come back meanwhile
needs the processor too."""


class Reply:
    """A reply of `tiny`, which draws by its seed, or of another model, which goes on for long. What
    was shown is the text of its end, so that nothing is said twice."""

    def __init__(self, backend: GenerationBackend, source: str, number: int) -> None:
        self.begun = asyncio.Event()
        self.shown = ""
        params = SamplingParams(
            max_new_tokens=150 if source == TINY else 600,
            seed=number,
            temperature=1.2 if source == TINY else 0,
            no_repeat_ngram=0,
        )
        self._stream = backend.generate(source, HELLO, params, channel=number)
        self.end = asyncio.ensure_future(self._follow())

    async def _follow(self) -> Finished:
        async with asyncio.timeout(REPLY_S), aclosing(self._stream):
            async for piece in self._stream:
                match piece:
                    case TextDelta(text=text):
                        self.shown += text
                        self.begun.set()
                    case Finished():
                        assert piece.text in (self.shown, self.shown.rstrip())
                        return piece
        raise AssertionError("a reply without an end")


async def texts(replies: list[Reply]) -> list[str]:
    return [(await one.end).text for one in replies]


class Chat:
    """Somebody who asks the same again and again, whose reply is the same each time. `by_cluster`
    and `by_worker` count the whole replies, `sentences` are what was said instead."""

    def __init__(self, backend: GenerationBackend, number: int) -> None:
        self.by_cluster = self.by_worker = 0
        self.texts: set[str] = set()
        self.sentences: list[str] = []
        self._backend = backend
        self._number = number

    async def talk(self) -> None:
        """Until it is cancelled, between two replies or in one."""
        while True:
            try:
                end = await Reply(self._backend, TINY, self._number).end
            except WorkerDied as e:
                self.sentences.append(str(e))
                continue
            finally:
                await asyncio.sleep(READING_S)
            self.texts.add(end.text)
            if end.request_id < LOCAL_IDS:
                self.by_cluster += 1
            else:
                self.by_worker += 1


@asynccontextmanager
async def chats(backend: GenerationBackend, count: int) -> AsyncIterator[list[Chat]]:
    """So many chats, which go on until the end of the block. What fails in one fails there."""
    found = [Chat(backend, number) for number in range(1, count + 1)]
    talks = [asyncio.ensure_future(one.talk()) for one in found]
    try:
        yield found
    finally:
        for one in talks:
            one.cancel()
        ends = await asyncio.gather(*talks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ends), ends

"""Making a reply: the model's words, shown as they come, as far as they may be said.

Knows the worker's client, the filters and which replies are under way. Does not know the store of
messages, nor whose turn it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from bot.chat.backpressure import Patience
from bot.chat.filters import WITHHELD, Filters, Guard, Unwanted
from bot.chat.rate_limit import shortened
from bot.chat.request import Asked, Request, Surface
from bot.chat.telemetry import Watched
from bot.discord_ui.errors import Refusal
from i18n.phrase import phrase
from i18n.reader import say
from model.worker.client import WorkerClient
from model.worker.messages import Finished, Queued, TextDelta

CLOSING = phrase("I am shutting down; please ask again in a moment.")


@dataclass(slots=True)
class Live:
    """A reply that is being made; `begun` once it has its turn, `limit` once the worker was asked,
    `request_id` once it has spoken of it, `stopped` once somebody has read enough, `gone` once what
    it answers was deleted."""

    asked: Asked
    surface: Surface
    watched: Watched
    begun: bool = False
    limit: asyncio.Timeout | None = None
    request_id: int | None = None
    stopped: bool = False
    gone: bool = False


@asynccontextmanager
async def _until_cut(live: Live) -> AsyncIterator[None]:
    """Wait for the worker's pieces, unless the bot stops before the first one."""
    live.limit = asyncio.timeout(None)
    try:
        async with live.limit:
            yield
    except TimeoutError as e:
        if live.limit.expired():
            raise Refusal(CLOSING) from e
        raise


class Speaker:
    """Makes replies, and ends those that nobody wants to read any more."""

    def __init__(self, worker: WorkerClient, filters: Filters, patience: Patience) -> None:
        self._worker = worker
        self._filters = filters
        self._patience = patience
        self._live: dict[int, Live] = {}

    @contextmanager
    def live(self, asked: Asked, surface: Surface, watched: Watched) -> Iterator[Live]:
        """Whoever asked waits for a reply until the end of the block."""
        one = self._live[asked.asked_id] = Live(asked, surface, watched)
        try:
            yield one
        finally:
            del self._live[asked.asked_id]

    def asker(self, asked_id: int) -> int | None:
        """Whose message is being answered now; None if that one is not."""
        live = self._live.get(asked_id)
        return live.asked.asked_by if live else None

    def stop(self, asked_id: int) -> None:
        """End the reply to a message where it is."""
        if (live := self._live.get(asked_id)) is not None:
            self._stop(live)

    def hush(self, scope: int | None) -> None:
        """End the replies of a scope (None: all of them) where they are. Who waits for a turn is
        told when it comes."""
        for live in self._live.values():
            if live.begun and scope in (None, live.asked.scope):
                self._stop(live)

    def forget(self, asked_ids: Collection[int]) -> None:
        """Messages were deleted: the replies to them end, and go."""
        for asked_id in self._live.keys() & set(asked_ids):
            self._live[asked_id].gone = True
            self._stop(self._live[asked_id])

    def cut(self) -> None:
        """End all replies where they are, begun or not: the bot stops."""
        for live in self._live.values():
            if live.request_id is not None:
                self._worker.abort(live.request_id)
            elif live.limit is not None:
                live.limit.reschedule(asyncio.get_running_loop().time())

    def _stop(self, live: Live) -> None:
        live.stopped = True
        if live.request_id is not None:
            self._worker.abort(live.request_id)

    async def say(self, live: Live, request: Request) -> Finished | None:
        """A reply that may be said here; what may not is drawn anew once. None if that may not be
        said either, or what it answers was deleted: then nothing of it is left to be seen.

        Raises:
            ModelError: there is no (more) reply.
        """
        guard = await self._filters.guard(request.scope)
        request = request.guarded(guard)
        for one in (request, request.anew()):
            try:
                reply = await self._stream(live, one, guard)
            except Unwanted:
                live.surface.restart()
                if live.stopped:
                    break
            else:
                if live.gone:
                    break
                live.watched.written(one, reply)
                return reply
        if live.gone:
            await live.surface.remove()
        else:
            live.watched.lost = "withheld"
            await live.surface.fail(say(WITHHELD))
        return None

    async def _stream(self, live: Live, request: Request, guard: Guard) -> Finished:
        """Show a reply while it is made, as far as its text passes the guard."""
        live.request_id = None
        pieces = self._worker.generate(
            request.serving.option.source,
            request.messages,
            request.params,
            channel=request.channel_id,
            scope=request.scope,
        )
        async with aclosing(pieces), _until_cut(live):
            with self._patience.waiting() as begun:
                async for piece in pieces:
                    if live.stopped and live.request_id != piece.request_id:
                        self._worker.abort(piece.request_id)  # it was stopped before it began
                    live.request_id = piece.request_id
                    match piece:
                        case Queued(place=place):
                            await live.surface.wait(place)
                        case TextDelta(text=text):
                            begun()
                            live.watched.said()
                            await live.surface.add(text, guard.check)
                        case Finished():
                            reply = replace(piece, text=shortened(piece.text))
                            guard.check(reply.text)
                            return reply
        raise AssertionError("the worker's client always ends with Finished or raises")

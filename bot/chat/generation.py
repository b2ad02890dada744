"""Making a reply: the model's words, shown as they come, as far as they may be said.

Knows the worker's client, the filters and which replies are under way. Does not know the store of
messages, nor whose turn it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from bot.chat.backpressure import Backpressure
from bot.chat.filters import REPLY_WITHHELD, Blocked, Filters, OutputGuard
from bot.chat.request import ReplyRequest, ReplySink, ReplyTarget, truncate_reply
from bot.chat.telemetry import ReplyTrace
from core.errors import Refusal
from i18n.phrase import phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.worker.messages import Finished, Queued, TextDelta

SHUTTING_DOWN = phrase("I am shutting down; please ask again in a moment.")


@dataclass(slots=True)
class ActiveReply:
    """A reply that is being made; `started` once it has its turn, `timeout` once the worker was
    asked, `request_id` once it has spoken of it, `stopped` once somebody has read enough,
    `target_deleted` once what it answers was deleted."""

    target: ReplyTarget
    sink: ReplySink
    trace: ReplyTrace
    started: bool = False
    timeout: asyncio.Timeout | None = None
    request_id: int | None = None
    stopped: bool = False
    target_deleted: bool = False


@asynccontextmanager
async def _abortable(live: ActiveReply) -> AsyncIterator[None]:
    """Wait for the worker's pieces, unless the bot stops before the first one."""
    live.timeout = asyncio.timeout(None)
    try:
        async with live.timeout:
            yield
    except TimeoutError as e:
        if live.timeout.expired():
            raise Refusal(SHUTTING_DOWN) from e
        raise


class ReplyGenerator:
    """Makes replies, and ends those that nobody wants to read any more."""

    def __init__(self, worker: GenerationBackend, filters: Filters, patience: Backpressure) -> None:
        self._worker = worker
        self._filters = filters
        self._backpressure = patience
        self._active: dict[int, ActiveReply] = {}

    @contextmanager
    def track(
        self, asked: ReplyTarget, surface: ReplySink, watched: ReplyTrace
    ) -> Iterator[ActiveReply]:
        """Whoever asked waits for a reply until the end of the block."""
        one = self._active[asked.asked_id] = ActiveReply(asked, surface, watched)
        try:
            yield one
        finally:
            del self._active[asked.asked_id]

    def asker_of(self, asked_id: int) -> int | None:
        """Whose message is being answered now; None if that one is not."""
        live = self._active.get(asked_id)
        return live.target.asked_by if live else None

    def stop(self, asked_id: int) -> None:
        """End the reply to a message where it is."""
        if (live := self._active.get(asked_id)) is not None:
            self._stop(live)

    def stop_scope(self, scope: int | None) -> None:
        """End the replies of a scope (None: all of them) where they are. Who waits for a turn is
        told when it comes."""
        for live in self._active.values():
            if live.started and scope in (None, live.target.scope):
                self._stop(live)

    def cancel_deleted(self, asked_ids: Collection[int]) -> None:
        """Messages were deleted: the replies to them end, and go."""
        for asked_id in self._active.keys() & set(asked_ids):
            self._active[asked_id].target_deleted = True
            self._stop(self._active[asked_id])

    def abort_all(self) -> None:
        """End all replies where they are, begun or not: the bot stops."""
        for live in self._active.values():
            if live.request_id is not None:
                self._worker.abort(live.request_id)
            elif live.timeout is not None:
                live.timeout.reschedule(asyncio.get_running_loop().time())

    def _stop(self, live: ActiveReply) -> None:
        live.stopped = True
        if live.request_id is not None:
            self._worker.abort(live.request_id)

    async def generate(self, live: ActiveReply, request: ReplyRequest) -> Finished | None:
        """A reply that may be said here; what may not is drawn anew once. None if that may not be
        said either, or what it answers was deleted: then nothing of it is left to be seen.

        Raises:
            ModelError: there is no (more) reply.
        """
        guard = await self._filters.guard(request.scope)
        request = request.with_guard(guard)
        for one in (request, request.reseeded()):
            try:
                reply = await self._stream(live, one, guard)
            except Blocked:
                live.sink.restart()
                if live.stopped:
                    break
            else:
                if live.target_deleted:
                    break
                live.trace.mark_finished(one, reply)
                return reply
        if live.target_deleted:
            await live.sink.remove()
        else:
            live.trace.drop_reason = "withheld"
            await live.sink.fail(say(REPLY_WITHHELD))
        return None

    async def _stream(
        self, live: ActiveReply, request: ReplyRequest, guard: OutputGuard
    ) -> Finished:
        """Show a reply while it is made, as far as its text passes the guard."""
        live.request_id = None
        pieces = self._worker.generate(
            request.serving.option.source,
            request.messages,
            request.params,
            channel=request.channel_id,
            scope=request.scope,
        )
        async with aclosing(pieces), _abortable(live):
            with self._backpressure.watch_wait() as begun:
                async for piece in pieces:
                    if live.stopped and live.request_id != piece.request_id:
                        self._worker.abort(piece.request_id)  # it was stopped before it began
                    live.request_id = piece.request_id
                    match piece:
                        case Queued(queue_position=place):
                            await live.sink.show_queue_position(place)
                        case TextDelta(text=text):
                            begun()
                            live.trace.mark_first_token()
                            await live.sink.add(text, guard.check)
                        case Finished():
                            reply = replace(piece, text=truncate_reply(piece.text))
                            guard.check(reply.text)
                            return reply
        raise AssertionError("the worker's client always ends with Finished or raises")

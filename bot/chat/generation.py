"""Generating a reply: the backend's stream, filtered and shown piece by piece; replies in flight.

Does not know the history, or whose turn it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto

from bot.chat.filters import REPLY_WITHHELD, Blocked, Filters, OutputGuard
from bot.chat.known import Astray, FixedAnswer, Misplaced, TaughtAnswer
from bot.chat.request import ReplyRequest, ReplySink, ReplyTarget, TextCheck, truncate_reply
from bot.chat.telemetry import FIXED, TAUGHT, WITHHELD, ReplyTrace
from core.errors import Refusal
from i18n.phrase import phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.errors import ModelError
from model.sampling import FinishReason
from model.worker.messages import Finished, Queued, TextDelta

log = logging.getLogger(__name__)

SHUTTING_DOWN = phrase("I am shutting down; please ask again in a moment.")


MAX_BLOCKED = 2
"""Replies that a filter blocks before none is given."""
MAX_MISPLACED = 2
"""Replies that are drawn again because they answer another question."""
MAX_ASTRAY = 2
"""Replies that are not the taught answer before that is given without the model."""


class ReplyState(Enum):
    """How far a reply is, or what ended it early."""

    WAITING = auto()
    """For its turn in the channel."""
    RUNNING = auto()
    STOPPED = auto()
    """By the Stop button or a pause; what was written so far stays."""
    DELETED = auto()
    """The message that it answers was deleted; what was written is removed."""


@dataclass(slots=True)
class ActiveReply:
    """A reply on its way. `request_id` is the worker's, known from its first event on; `timeout`
    ends the wait for that event. `fell_back`: the taught answer was given in place of the model's.
    """

    target: ReplyTarget
    sink: ReplySink
    trace: ReplyTrace
    state: ReplyState = ReplyState.WAITING
    timeout: asyncio.Timeout | None = None
    request_id: int | None = None
    fell_back: bool = False

    def begin(self) -> None:
        """Its turn has come, unless it ended while it waited."""
        if self.state is ReplyState.WAITING:
            self.state = ReplyState.RUNNING

    @property
    def is_deleted(self) -> bool:
        return self.state is ReplyState.DELETED

    @property
    def is_cancelled(self) -> bool:
        return self.state in (ReplyState.STOPPED, ReplyState.DELETED)


@asynccontextmanager
async def _abortable(live: ActiveReply) -> AsyncIterator[None]:
    """Wait for the worker's events, unless the bot stops before the first one."""
    live.timeout = asyncio.timeout(None)
    try:
        async with live.timeout:
            yield
    except TimeoutError as e:
        if live.timeout.expired():
            raise Refusal(SHUTTING_DOWN) from e
        raise


class ReplyGenerator:
    """Generates replies, and stops or aborts those in flight.

    `on_slow_reply` is called when a reply has not begun after `slow_s` seconds (0: never). This is
    how training gives way to the chat: the two share the processor.
    """

    def __init__(
        self,
        worker: GenerationBackend,
        filters: Filters,
        *,
        slow_s: float = 0.0,
        on_slow_reply: Callable[[], None] = lambda: None,
    ) -> None:
        self._worker = worker
        self._filters = filters
        self._slow_s = slow_s
        self._on_slow_reply = on_slow_reply
        self._active: dict[int, ActiveReply] = {}

    @contextmanager
    def track(
        self, asked: ReplyTarget, sink: ReplySink, trace: ReplyTrace
    ) -> Iterator[ActiveReply]:
        """Register a reply in flight until the end of the block."""
        one = self._active[asked.asked_id] = ActiveReply(asked, sink, trace)
        try:
            yield one
        finally:
            del self._active[asked.asked_id]

    def asker_of(self, asked_id: int) -> int | None:
        """Who wrote a message that is being answered now; None if it is not."""
        live = self._active.get(asked_id)
        return live.target.asked_by if live else None

    def stop(self, asked_id: int) -> None:
        """Stop the reply to a message; what was written stays."""
        if (live := self._active.get(asked_id)) is not None:
            self._cancel(live, ReplyState.STOPPED)

    def stop_scope(self, scope: int | None) -> None:
        """End the replies of a scope (None: all of them) where they are. Messages that wait are
        refused when their turn comes (`Pauses.check`)."""
        for live in self._active.values():
            if live.state is not ReplyState.WAITING and scope in (None, live.target.scope):
                self._cancel(live, ReplyState.STOPPED)

    def cancel_deleted(self, asked_ids: Collection[int]) -> None:
        """Stop and remove the replies to deleted messages."""
        for asked_id in self._active.keys() & set(asked_ids):
            self._cancel(self._active[asked_id], ReplyState.DELETED)

    def abort_all(self) -> None:
        """End all replies at once, even those that have not begun: the bot is stopping."""
        for live in self._active.values():
            if live.request_id is not None:
                self._worker.abort(live.request_id)
            elif live.timeout is not None:
                live.timeout.reschedule(asyncio.get_running_loop().time())

    def _cancel(self, live: ActiveReply, state: ReplyState) -> None:
        if not live.is_deleted:  # a deletion is never undone by a stop that comes after it
            live.state = state
        if live.request_id is not None:
            self._worker.abort(live.request_id)

    async def generate(self, live: ActiveReply, request: ReplyRequest) -> Finished | None:
        """A reply that passes the scope's filters: the known answer, or one of the model.

        A blocked one is sampled once more with another seed; None if that is blocked too, or the
        message was deleted: then nothing stays shown. What is the answer to another question is
        sampled again, twice at most, and then left as it is. Where the model was expected to know
        the taught answer, that is given if it says something else twice.

        Raises:
            ModelError: there is no (more) reply.
        """
        guard = await self._filters.guard(request.target.scope)
        if request.known.answer is not None:
            return await self._give_known(live, request.known.answer, guard)
        request = request.with_guard(guard)
        faults: Counter[type[Blocked]] = Counter()
        while True:
            try:
                reply = await self._attempt(live, request, guard, faults)
            except Blocked as fault:
                faults[type(fault)] += 1
                request = request.after(fault)
            else:
                return await self._give(live, request, reply)
            live.sink.restart()
            if faults[Blocked] == MAX_BLOCKED or live.is_cancelled:
                await self._give_nothing(live)
                return None
            if faults[Astray] == MAX_ASTRAY and (expected := request.known.expected):
                live.fell_back = True
                return await self._give_known(live, expected, guard)

    async def generate_beside(self, live: ActiveReply, request: ReplyRequest) -> Finished | None:
        """Another reply to the same message, shown nowhere yet. None if there is none that may be
        shown, or the first was stopped: then the first stands alone."""
        if live.is_cancelled:
            return None
        guard = await self._filters.guard(request.target.scope)
        try:
            reply = await self._stream(
                live,
                request.with_guard(guard),
                _both(guard.check, request.known.check),
                shown=False,
            )
        except (Blocked, ModelError) as e:
            log.info("no second answer to %d: %s", request.target.asked_id, e)
            return None
        return reply if reply.text.strip() and not live.is_cancelled else None

    async def _attempt(
        self,
        live: ActiveReply,
        request: ReplyRequest,
        guard: OutputGuard,
        faults: Mapping[type[Blocked], int],
    ) -> Finished:
        """A reply that passes the checks. Raises Blocked, Misplaced or Astray if it does not."""
        known = request.known.check if faults[Misplaced] < MAX_MISPLACED else None
        reply = await self._stream(live, request, _both(guard.check, known))
        if request.known.expected and not live.is_cancelled:
            request.known.expected.check_whole(reply.text)
        return reply

    async def _give(
        self, live: ActiveReply, request: ReplyRequest, reply: Finished
    ) -> Finished | None:
        if live.is_deleted:
            await self._give_nothing(live)
            return None
        live.trace.mark_finished(request, reply)
        return reply

    async def _give_known(
        self, live: ActiveReply, answer: TaughtAnswer | FixedAnswer, guard: OutputGuard
    ) -> Finished | None:
        """The known answer, without the model, if it passes the filters."""
        text = truncate_reply(answer.text)
        try:
            guard.check(text)
        except Blocked:
            await self._give_nothing(live)
            return None
        live.trace.drop_reason = FIXED if isinstance(answer, FixedAnswer) else TAUGHT
        return Finished(0, text, FinishReason.END, 0, 0, seed=0, seconds=0.0)

    async def _give_nothing(self, live: ActiveReply) -> None:
        if live.is_deleted:
            await live.sink.remove()
        else:
            live.trace.drop_reason = WITHHELD
            await live.sink.fail(say(REPLY_WITHHELD))

    async def _stream(
        self, live: ActiveReply, request: ReplyRequest, check: TextCheck, *, shown: bool = True
    ) -> Finished:
        """Stream one attempt to the sink, as far as its text passes the check."""
        live.request_id = None
        pieces = self._worker.generate(
            request.serving.option.source,
            [one.message for one in request.context],
            request.drawn_params,
            channel=request.target.channel_id,
            scope=request.target.scope,
        )
        async with aclosing(pieces), _abortable(live):
            with self._watch_wait() as begun:
                async for piece in pieces:
                    # The id comes with the first event. A stop before that had nothing to abort,
                    # so it is made up for here; a second attempt is a new request, with a new id.
                    if live.is_cancelled and live.request_id != piece.request_id:
                        self._worker.abort(piece.request_id)
                    live.request_id = piece.request_id
                    match piece:
                        case Queued(queue_position=place) if shown:
                            await live.sink.show_queue_position(place)
                        case TextDelta() if not shown:
                            begun()
                        case TextDelta(text=text):
                            begun()
                            live.trace.mark_first_token()
                            await live.sink.add(text, check)
                        case Finished():
                            reply = replace(piece, text=truncate_reply(piece.text))
                            check(reply.text)
                            return reply
        raise AssertionError("the worker's client always ends with Finished or raises")

    @contextmanager
    def _watch_wait(self) -> Iterator[Callable[[], None]]:
        """Report a slow reply, unless the yielded function is called in time."""
        if not self._slow_s:
            yield lambda: None
            return
        timer = asyncio.get_running_loop().call_later(self._slow_s, self._on_slow_reply)
        try:
            yield timer.cancel
        finally:
            timer.cancel()


def _both(first: TextCheck, second: TextCheck | None) -> TextCheck:
    if second is None:
        return first

    def check(text: str) -> None:
        first(text)
        second(text)

    return check

"""The conversation: each channel's history, one turn at a time, the last messages as context.

Knows the store, the worker's client and which model serves. Does not know Discord: where a reply
appears is behind `Surface`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bot.errors import Refusal
from bot.models import ModelSwitch, Serving
from bot.patience import Patience
from bot.request import Incoming, Request, Surface, another_seed
from bot.turns import Turns
from data.schema import Message, ReplyRecord, Role, StoredMessage
from data.store import Store
from model.client import WorkerClient
from model.messages import Finished, Queued, Rendered, TextDelta
from model.sampling import SamplingParams

log = logging.getLogger(__name__)

STOPPED = "Stopped."
CLOSING = "I am shutting down; please ask again in a moment."
GONE = "What it answers was deleted, so I cannot answer it again."
TOO_LATE = "What it answers was deleted, or I am shutting down."
AT_IT = "I am answering that already."

LAST_WORDS_S = 3.0
"""Seconds that replies get to show how far they came when the bot stops."""

OnReply = Callable[[ReplyRecord, str, str], Awaitable[None]]
"""Hears of each reply that was recorded: its record, what it answers, what it says."""


@dataclass(slots=True)
class Stream:
    """A reply that is being made for a member; `limit` once the worker was asked, `request_id` once
    it has spoken of it."""

    asked_by: int
    request_id: int | None = None
    limit: asyncio.Timeout | None = None


@asynccontextmanager
async def _until_cut(stream: Stream) -> AsyncIterator[None]:
    """Wait for the worker's pieces, unless the bot stops before the first one."""
    stream.limit = asyncio.timeout(None)
    try:
        async with stream.limit:
            yield
    except TimeoutError as e:
        if stream.limit.expired():
            raise Refusal(CLOSING) from e
        raise


async def nobody_listens(_record: ReplyRecord, _asked: str, _reply: str) -> None:
    """The default of `on_reply`."""


class ConversationManager:
    """Holds the conversation of every channel."""

    def __init__(
        self,
        store: Store,
        worker: WorkerClient,
        models: ModelSwitch,
        *,
        context_messages: int,
        params: SamplingParams,
        bot_id: Callable[[], int],
        patience: Patience | None = None,
        on_reply: OnReply = nobody_listens,
    ) -> None:
        self._store = store
        self._worker = worker
        self._models = models
        self._context_messages = context_messages
        self._params = params
        self._bot_id = bot_id
        self._patience = patience or Patience(0, lambda: None)
        self._on_reply = on_reply
        self._turns = Turns()
        self._streams: dict[int, Stream] = {}

    async def answer(self, incoming: Incoming, surface: Surface) -> Finished | None:
        """Take a turn: record the message, let the model answer, record the reply.

        Turns of a channel follow each other in the order of these calls. None if the message came
        before, was deleted while it waited, or the bot is closing.

        Raises:
            ModelError, StoreError: there is no reply; the message stays in the history.
        """
        asked_id, channel_id = incoming.asked_id, incoming.channel_id
        if asked_id in self._streams:
            return None  # Discord sent it twice
        with self._streaming(asked_id, incoming.asked_by):
            async with self._turns.turn(channel_id, asked_id) as ours:
                if self._turns.closing:
                    await surface.fail(CLOSING)
                if not ours or not await self._store.add_message(_heard(incoming)):
                    return None
                seen = await self._store.context(channel_id, self._context_messages)
                serving = await self._models.serving(incoming.scope)
                request = Request.to(incoming, seen, serving, self._params)
                return await self._reply(request, surface)

    async def again(self, record: ReplyRecord, surface: Surface) -> Finished:
        """Make a reply anew with another seed; it takes the place of the old one.

        It reads what is still there of what the old one read. Likes and dislikes of that go.

        Raises:
            Refusal: there is nothing to answer any more, or it is being answered.
            ModelError, StoreError: there is no new reply; the old one stays in the history.
        """
        if record.asked_id in self._streams:
            raise Refusal(AT_IT)
        with self._streaming(record.asked_id, record.asked_by):
            async with self._turns.turn(record.channel_id, record.asked_id) as ours:
                seen = await self._store.messages(record.seen) if ours else []
                if not seen or seen[-1].discord_id != record.asked_id:
                    raise Refusal(GONE if ours else TOO_LATE)
                serving = await self._models.serving(record.scope)
                params = replace(self._params, seed=another_seed(record.seed))
                request = Request.to(record, seen, serving, params)
                return await self._reply(request, surface, anew=True)

    @contextmanager
    def _streaming(self, asked_id: int, asked_by: int) -> Iterator[None]:
        self._streams[asked_id] = Stream(asked_by)
        try:
            yield
        finally:
            del self._streams[asked_id]

    def asker(self, asked_id: int) -> int | None:
        """Whose message is being answered now; None if that one is not."""
        stream = self._streams.get(asked_id)
        return stream.asked_by if stream else None

    def stop(self, asked_id: int) -> None:
        """End the reply to a message where it is."""
        stream = self._streams.get(asked_id)
        if stream is not None and stream.request_id is not None:
            self._worker.abort(stream.request_id)

    def _cut(self, stream: Stream) -> None:
        """End a reply where it is, begun or not."""
        if stream.request_id is not None:
            self._worker.abort(stream.request_id)
        elif stream.limit is not None:
            stream.limit.reschedule(asyncio.get_running_loop().time())

    async def _reply(self, request: Request, surface: Surface, *, anew: bool = False) -> Finished:
        reply = await self._stream(request, surface)
        if not reply.text.strip():  # it was stopped before its first word
            await surface.fail(CLOSING if self._turns.closing else STOPPED)
            return reply
        reply_id = await surface.finish(reply.text, request.serving.note)
        record = request.record(reply_id, reply)
        recorded = await self._store.add_reply(record)
        if anew:
            await self._store.edit_message(reply_id, reply.text)
            await self._store.drop_ratings(reply_id)
        else:
            await self._store.add_message(self._said(record, reply.text), answering=record.asked_id)
        await self._read_ahead(request)
        if recorded:
            await self._tell(record, request.asked, reply.text)
        return reply

    async def _stream(self, request: Request, surface: Surface) -> Finished:
        stream = self._streams[request.asked_id]
        pieces = self._worker.generate(
            request.serving.option.source,
            request.messages,
            request.params,
            channel=request.channel_id,
            scope=request.scope,
        )
        async with aclosing(pieces), _until_cut(stream):
            with self._patience.waiting() as begun:
                async for piece in pieces:
                    stream.request_id = piece.request_id
                    match piece:
                        case Queued(place=place):
                            await surface.wait(place)
                        case TextDelta(text=text):
                            begun()
                            await surface.add(text)
                        case Finished():
                            return piece
        raise AssertionError("the worker's client always ends with Finished or raises")

    async def _read_ahead(self, request: Request) -> None:
        """Tell the worker how the next context will begin: with all but the message to come."""
        known = await self.conversation_history(request.channel_id)
        begins = known[len(known) - min(len(known), self._context_messages - 1) :]
        self._worker.prepare(request.serving.option.source, begins, request.channel_id)

    async def _tell(self, record: ReplyRecord, asked: str, reply: str) -> None:
        try:
            await self._on_reply(record, asked, reply)
        except Exception:
            log.exception("who listens to replies failed at %d", record.reply_id)

    def _said(self, record: ReplyRecord, text: str) -> StoredMessage:
        """The reply as a message of the history."""
        return StoredMessage(
            discord_id=record.reply_id,
            channel_id=record.channel_id,
            author_id=self._bot_id(),
            message=Message(Role.ASSISTANT, text),
            created_at=record.created_at,
            scope=record.scope,
        )

    async def conversation_history(self, channel_id: int) -> list[Message]:
        """The context: the last messages of the channel since its reset, oldest first."""
        stored = await self._store.context(channel_id, self._context_messages)
        return [one.message for one in stored]

    async def context(self, channel_id: int, scope: int) -> tuple[Serving, Rendered | None]:
        """What the model would see now, and which model; None where nothing was said yet."""
        serving = await self._models.serving(scope)
        history = await self.conversation_history(channel_id)
        if not history:
            return serving, None
        rendered = await self._worker.render(
            serving.option.source, history, self._params.max_new_tokens
        )
        return serving, rendered

    async def reset(self, channel_id: int) -> None:
        """Forget the channel's context from here on, once the turn under way is over."""
        async with self._turns.alone(channel_id):
            await self._store.reset_context(channel_id)

    async def edited(self, discord_id: int, text: str) -> None:
        """A message was edited: the history says what it says now."""
        await self._store.edit_message(discord_id, text)

    async def deleted(self, discord_ids: Collection[int]) -> None:
        """Messages were deleted: they leave the history, and lose their turn if they wait."""
        self._turns.withdraw(discord_ids)
        await self._store.delete_messages(discord_ids)

    async def drain(self, seconds: float) -> None:
        """Begin no new turn and wait at most that long for those under way; what is still being
        written then ends where it is."""
        if not await self._turns.drain(seconds):
            for stream in self._streams.values():
                self._cut(stream)
            await self._turns.drain(LAST_WORDS_S)


def _heard(incoming: Incoming) -> StoredMessage:
    """What a person said as a message of the history."""
    return StoredMessage(
        discord_id=incoming.asked_id,
        channel_id=incoming.channel_id,
        author_id=incoming.asked_by,
        message=Message(Role.USER, incoming.text()),
        created_at=datetime.now(UTC),
        scope=incoming.scope,
    )

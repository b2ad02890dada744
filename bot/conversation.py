"""The conversation: each channel's history, one turn at a time, the last messages as context.

Knows the store, the worker's client and which model serves. Does not know Discord: where a reply
appears is behind `Surface`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from bot.models import ModelSwitch, Serving
from bot.patience import Patience
from data.schema import Message, Role, StoredMessage
from data.store import Store
from model.client import WorkerClient
from model.messages import Finished, Queued, Rendered, TextDelta
from model.sampling import SamplingParams

log = logging.getLogger(__name__)


class Surface(Protocol):
    """Where a reply appears."""

    async def wait(self, place: int) -> None:
        """Show that others are answered first."""

    async def add(self, text: str) -> None:
        """Show another piece."""

    async def finish(self, text: str, note: str | None = None) -> int:
        """Show all of it; the id under which the reply is known."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that wants an answer.

    `text` is asked for when its turn comes: the message may have been edited while it waited.
    """

    discord_id: int
    channel_id: int
    scope: int
    author_id: int
    text: Callable[[], str]


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
    ) -> None:
        self._store = store
        self._worker = worker
        self._models = models
        self._context_messages = context_messages
        self._params = params
        self._bot_id = bot_id
        self._patience = patience or Patience(0, lambda: None)
        self._turns: dict[int, asyncio.Lock] = {}
        self._waiting: dict[int, int] = {}
        self._pending: set[int] = set()
        self._withdrawn: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    async def answer(self, incoming: Incoming, surface: Surface) -> Finished | None:
        """Take a turn: record the message, let the model answer, record the reply.

        Turns of a channel follow each other in the order of these calls. None if the message was
        deleted while it waited, or the bot is closing.

        Raises:
            ModelError, StoreError: there is no reply; the message stays in the history.
        """
        async with self._turn(incoming):
            if self._closing or incoming.discord_id in self._withdrawn:
                return None
            await self._record(incoming, incoming.discord_id, Role.USER, incoming.text())
            history = await self.conversation_history(incoming.channel_id)
            serving = await self._models.serving(incoming.scope)
            reply = await self._stream(incoming, serving, history, surface)
            reply_id = await surface.finish(reply.text, serving.note)
            await self._record(incoming, reply_id, Role.ASSISTANT, reply.text)
            known = [*history, Message(Role.ASSISTANT, reply.text)]
            self._read_ahead(incoming.channel_id, serving, known)
            return reply

    def _read_ahead(self, channel_id: int, serving: Serving, known: list[Message]) -> None:
        """Tell the worker how the next context will begin: with all but the message to come."""
        begins = known[len(known) - min(len(known), self._context_messages - 1) :]
        self._worker.prepare(serving.option.source, begins, channel_id)

    async def _stream(
        self, incoming: Incoming, serving: Serving, history: list[Message], surface: Surface
    ) -> Finished:
        pieces = self._worker.generate(
            serving.option.source,
            history,
            self._params,
            channel=incoming.channel_id,
            scope=incoming.scope,
        )
        async with aclosing(pieces):
            with self._patience.waiting() as begun:
                async for piece in pieces:
                    match piece:
                        case Queued(place=place):
                            await surface.wait(place)
                        case TextDelta(text=text):
                            begun()
                            await surface.add(text)
                        case Finished():
                            return piece
        raise AssertionError("the worker's client always ends with Finished or raises")

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
        async with self._lock(channel_id):
            await self._store.reset_context(channel_id)

    async def edited(self, discord_id: int, text: str) -> None:
        """A message was edited: the history says what it says now."""
        await self._store.edit_message(discord_id, text)

    async def deleted(self, discord_ids: Collection[int]) -> None:
        """Messages were deleted: they leave the history, and lose their turn if they wait."""
        self._withdrawn.update(self._pending.intersection(discord_ids))
        await self._store.delete_messages(discord_ids)

    async def drain(self, seconds: float) -> None:
        """Begin no new turn and wait at most that long for those under way."""
        self._closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("some replies were still under way after %.0f s", seconds)

    async def _record(self, incoming: Incoming, discord_id: int, role: Role, text: str) -> None:
        await self._store.add_message(
            StoredMessage(
                discord_id=discord_id,
                channel_id=incoming.channel_id,
                author_id=incoming.author_id if role is Role.USER else self._bot_id(),
                message=Message(role, text),
                created_at=datetime.now(UTC),
            )
        )

    @asynccontextmanager
    async def _turn(self, incoming: Incoming) -> AsyncIterator[None]:
        self._pending.add(incoming.discord_id)
        self._idle.clear()
        try:
            async with self._lock(incoming.channel_id):
                yield
        finally:
            self._pending.discard(incoming.discord_id)
            self._withdrawn.discard(incoming.discord_id)
            if not self._pending:
                self._idle.set()

    @asynccontextmanager
    async def _lock(self, channel_id: int) -> AsyncIterator[None]:
        """One holder at a time for each channel, first come first served; none kept when idle."""
        lock = self._turns.setdefault(channel_id, asyncio.Lock())
        self._waiting[channel_id] = self._waiting.get(channel_id, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[channel_id] -= 1
            if not self._waiting[channel_id]:
                del self._waiting[channel_id], self._turns[channel_id]

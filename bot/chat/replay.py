"""Where a reply comes from, and the same words put to another model.

Knows the store's records, the models and the worker. Does not know Discord. Keeps nothing.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace

from bot.chat.filters import WITHHELD, Filters, Guard, Unwanted
from bot.chat.model_router import ModelSwitch
from bot.chat.rate_limit import shortened
from bot.chat.request import sampling_of
from bot.discord_ui.errors import Refusal
from core.records import Rating, ReplyRecord, StoredMessage
from data.storage.store import Store
from i18n.phrase import phrase
from model.registry import ModelOption, find
from model.worker.client import WorkerClient
from model.worker.messages import Finished

UNKNOWN = phrase(
    "I do not know what that was made from: it is too old, or not the first message of a reply."
)
GONE = phrase("What it answers was deleted, so it cannot be answered again.")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a reply: `seen` are the messages of its record, None where one is gone, and
    `text` is what it says, None if that is gone."""

    record: ReplyRecord
    seen: tuple[StoredMessage | None, ...]
    text: str | None
    rating: Rating

    @property
    def left(self) -> list[StoredMessage]:
        """The messages that are still there, oldest first."""
        return [one for one in self.seen if one is not None]

    @property
    def can_be_replayed(self) -> bool:
        """Whether there is still something to answer."""
        return bool(self.seen) and self.seen[-1] is not None


class Replays:
    """Looks replies up and plays them on other models."""

    def __init__(
        self, store: Store, models: ModelSwitch, worker: WorkerClient, filters: Filters
    ) -> None:
        self._store = store
        self._models = models
        self._worker = worker
        self._filters = filters

    async def origin(self, reply_id: int, channel_id: int) -> Origin:
        """What a reply of that channel was made from; messages of other channels are left out.

        Raises:
            Refusal: nothing is known of it.
        """
        record = await self._store.reply(reply_id)
        if record is None or record.channel_id != channel_id:
            raise Refusal(UNKNOWN)
        stored = await self._store.messages([*record.seen, reply_id])
        here = {one.discord_id: one for one in stored if one.channel_id == channel_id}
        reply = here.get(reply_id)
        return Origin(
            record,
            tuple(map(here.get, record.seen)),
            reply.message.content if reply else None,
            await self._store.rating(reply_id),
        )

    def exists(self, record: ReplyRecord) -> bool:
        """Whether the model that made a reply is still there."""
        options = self._models.options(record.scope)
        return any(option.name == record.model for option in options)

    def choices(self, origin: Origin, *, manager: bool) -> list[ModelOption]:
        """On what a reply can be replayed, checkpoints last, the newest first.

        Whoever is no manager may not make the bot load a model.
        """
        if not origin.can_be_replayed:
            return []
        options = self._models.bases(origin.record.scope)
        return [one for one in options if manager or one.source in self._worker.models]

    async def replay(self, origin: Origin, name: str, *, manager: bool) -> Finished:
        """What another model says to the same messages, with the same settings and seed.

        Raises:
            Refusal: there is nothing to answer any more, the model must not be loaded, or what it
                says must not be said here.
            UnknownModel, ModelError: there is no such model, or it does not answer.
        """
        record = origin.record
        if not origin.can_be_replayed:
            raise Refusal(GONE)
        option = find(self._models.options(record.scope), name)
        if not manager and option.source not in self._worker.models:
            raise Refusal(
                phrase(
                    "{name} is not loaded. "
                    "Somebody with the permission Manage Server can choose it.",
                    name=option.name,
                )
            )
        await self._models.make_ready(option)
        return await self._say(origin, option.source)

    async def _say(self, origin: Origin, source: str) -> Finished:
        messages = [one.message for one in origin.left]
        record = origin.record
        guard = await self._filters.guard(record.scope)
        params = guard.sampling(sampling_of(record))
        pieces = self._worker.generate(source, messages, params, scope=record.scope)
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Finished):
                    return _checked(piece, guard)
        raise AssertionError("the worker's client always ends with Finished or raises")


def _checked(reply: Finished, guard: Guard) -> Finished:
    reply = replace(reply, text=shortened(reply.text))
    try:
        guard.check(reply.text)
    except Unwanted as e:
        raise Refusal(WITHHELD) from e
    return reply

"""Where a reply comes from, and the same words put to another model.

Knows the store's records, the models and the worker. Does not know Discord. Keeps nothing.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace

from bot.chat.filters import REPLY_WITHHELD, Blocked, Filters, OutputGuard
from bot.chat.model_router import ModelRouter
from bot.chat.request import recorded_sampling, truncate_reply
from core.errors import Refusal
from core.records import RatingSummary, ReplyRecord, StoredMessage
from data.storage.storage import Storage
from i18n.phrase import phrase
from model.backend import GenerationBackend
from model.registry import ModelOption, find_option
from model.worker.messages import Finished

ORIGIN_UNKNOWN = phrase(
    "I do not know what that was made from: it is too old, or not the first message of a reply."
)
PROMPT_DELETED = phrase("What it answers was deleted, so it cannot be answered again.")


@dataclass(frozen=True, slots=True)
class ReplyOrigin:
    """What is known of a reply: `seen` are the messages of its record, None where one is gone, and
    `text` is what it says, None if that is gone."""

    record: ReplyRecord
    seen: tuple[StoredMessage | None, ...]
    text: str | None
    rating: RatingSummary

    @property
    def remaining(self) -> list[StoredMessage]:
        """The messages that are still there, oldest first."""
        return [one for one in self.seen if one is not None]

    @property
    def can_be_replayed(self) -> bool:
        """Whether there is still something to answer."""
        return bool(self.seen) and self.seen[-1] is not None


class Replayer:
    """Looks replies up and plays them on other models."""

    def __init__(
        self, storage: Storage, models: ModelRouter, worker: GenerationBackend, filters: Filters
    ) -> None:
        self._storage = storage
        self._models = models
        self._worker = worker
        self._filters = filters

    async def origin(self, reply_id: int, channel_id: int) -> ReplyOrigin:
        """What a reply of that channel was made from; messages of other channels are left out.

        Raises:
            Refusal: nothing is known of it.
        """
        record = await self._storage.replies.get(reply_id)
        if record is None or record.channel_id != channel_id:
            raise Refusal(ORIGIN_UNKNOWN)
        stored = await self._storage.messages.get_many([*record.seen, reply_id])
        here = {one.discord_id: one for one in stored if one.channel_id == channel_id}
        reply = here.get(reply_id)
        return ReplyOrigin(
            record,
            tuple(map(here.get, record.seen)),
            reply.message.content if reply else None,
            await self._storage.replies.rating_summary(reply_id),
        )

    def exists(self, record: ReplyRecord) -> bool:
        """Whether the model that made a reply is still there."""
        options = self._models.options(record.scope)
        return any(option.name == record.model for option in options)

    def choices(self, origin: ReplyOrigin, *, manager: bool) -> list[ModelOption]:
        """On what a reply can be replayed, checkpoints last, the newest first.

        Whoever is no manager may not make the bot load a model.
        """
        if not origin.can_be_replayed:
            return []
        options = self._models.training_bases(origin.record.scope)
        return [one for one in options if manager or one.source in self._worker.models]

    async def replay(self, origin: ReplyOrigin, name: str, *, manager: bool) -> Finished:
        """What another model says to the same messages, with the same settings and seed.

        Raises:
            Refusal: there is nothing to answer any more, the model must not be loaded, or what it
                says must not be said here.
            UnknownModel, ModelError: there is no such model, or it does not answer.
        """
        record = origin.record
        if not origin.can_be_replayed:
            raise Refusal(PROMPT_DELETED)
        option = find_option(self._models.options(record.scope), name)
        if not manager and option.source not in self._worker.models:
            raise Refusal(
                phrase(
                    "{name} is not loaded. "
                    "Somebody with the permission Manage Server can choose it.",
                    name=option.name,
                )
            )
        await self._models.ensure_loaded(option)
        return await self._generate(origin, option.source)

    async def _generate(self, origin: ReplyOrigin, source: str) -> Finished:
        messages = [one.message for one in origin.remaining]
        record = origin.record
        guard = await self._filters.guard(record.scope)
        params = guard.with_banned_words(recorded_sampling(record))
        pieces = self._worker.generate(source, messages, params, scope=record.scope)
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Finished):
                    return _enforce_guard(piece, guard)
        raise AssertionError("the worker's client always ends with Finished or raises")


def _enforce_guard(reply: Finished, guard: OutputGuard) -> Finished:
    reply = replace(reply, text=truncate_reply(reply.text))
    try:
        guard.check(reply.text)
    except Blocked as e:
        raise Refusal(REPLY_WITHHELD) from e
    return reply

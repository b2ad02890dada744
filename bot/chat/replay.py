"""The origin of a reply, and the same prompt replayed on another model.

Knows the store, the models and the worker. Does not know Discord, and records nothing.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace

from bot.chat.filters import REPLY_WITHHELD, Blocked, Filters, OutputGuard
from bot.chat.model_router import ModelRouter
from bot.chat.request import recorded_sampling, truncate_reply
from core.errors import Refusal
from core.records import RatingSummary, ReplyRecord, StoredMessage
from data.storage.tables.messages import Messages, Replies
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
    """A reply's record, the messages that its model read (`seen`, None for a deleted one) and its
    `text` (None if deleted)."""

    record: ReplyRecord
    seen: tuple[StoredMessage | None, ...]
    text: str | None
    rating: RatingSummary

    @property
    def remaining(self) -> list[StoredMessage]:
        """The messages that were not deleted, oldest first."""
        return [message for message in self.seen if message is not None]

    @property
    def can_be_replayed(self) -> bool:
        """Whether the message that it answers still exists."""
        return bool(self.seen) and self.seen[-1] is not None


class Replayer:
    """Looks up the origin of replies, and replays them."""

    def __init__(
        self,
        messages: Messages,
        replies: Replies,
        models: ModelRouter,
        worker: GenerationBackend,
        filters: Filters,
    ) -> None:
        self._messages = messages
        self._replies = replies
        self._models = models
        self._worker = worker
        self._filters = filters

    async def origin(self, reply_id: int, channel_id: int) -> ReplyOrigin:
        """The origin of a reply in that channel, without messages of other channels.

        Raises:
            Refusal: it is unknown.
        """
        record = await self._replies.get(reply_id)
        if record is None or record.channel_id != channel_id:
            raise Refusal(ORIGIN_UNKNOWN)
        stored = await self._messages.get_many([*record.seen, reply_id])
        here = {one.discord_id: one for one in stored if one.channel_id == channel_id}
        reply = here.get(reply_id)
        return ReplyOrigin(
            record,
            tuple(map(here.get, record.seen)),
            reply.message.content if reply else None,
            await self._replies.rating_summary(reply_id),
        )

    def exists(self, record: ReplyRecord) -> bool:
        """Whether the model that made the reply still exists."""
        return any(option.name == record.model for option in self._models.options(record.scope))

    def choices(self, origin: ReplyOrigin, *, manager: bool) -> list[ModelOption]:
        """The models to replay a reply on: built-in and custom ones, then checkpoints, newest
        first. Only a manager may make the bot load a model."""
        if not origin.can_be_replayed:
            return []
        options = self._models.training_bases(origin.record.scope)
        return [one for one in options if manager or one.source in self._worker.models]

    async def replay(self, origin: ReplyOrigin, name: str, *, manager: bool) -> Finished:
        """Another model's reply to the same messages, with the same parameters and seed.

        Raises:
            Refusal: the prompt was deleted, the model may not be loaded, or a filter matches.
            UnknownModel, ModelError: there is no such model, or it cannot reply.
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
        guard = await self._filters.guard(record.scope)
        params = guard.with_banned_words(recorded_sampling(record))
        messages = [one.message for one in origin.remaining]
        events = self._worker.generate(option.source, messages, params, scope=record.scope)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Finished):
                    return _checked(event, guard)
        raise AssertionError("the worker's client always ends with Finished or raises")


def _checked(reply: Finished, guard: OutputGuard) -> Finished:
    text = truncate_reply(reply.text)
    try:
        guard.check(text)
    except Blocked as e:
        raise Refusal(REPLY_WITHHELD) from e
    return replace(reply, text=text)

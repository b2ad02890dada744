"""The conversation: each channel's history, one turn at a time, the last messages as context.

Knows the store, whose turn it is and which model serves. Does not know Discord: where a reply
appears is behind `Surface`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from bot.chat.backpressure import Patience
from bot.chat.filters import WITHHELD, Filters
from bot.chat.generation import CLOSING, Live, Speaker
from bot.chat.language_notice import Tongue
from bot.chat.model_router import ModelSwitch, Serving
from bot.chat.pauses import Silence
from bot.chat.queue import Turns
from bot.chat.rate_limit import Clock, Held
from bot.chat.request import Incoming, Request, Surface, another_seed
from bot.chat.telemetry import Watching
from bot.chat.unsaved import Unwritten
from bot.discord_ui.errors import Refusal
from core.errors import StoreError
from core.metrics import Metrics
from core.records import Message, ReplyRecord, Role, StoredMessage
from data.storage.store import Store
from i18n.phrase import Phrase, phrase, together
from i18n.reader import say
from model.sampling import SamplingParams
from model.worker.client import WorkerClient
from model.worker.messages import Finished, Rendered

log = logging.getLogger(__name__)

STOPPED = phrase("Stopped.")
GONE = phrase("What it answers was deleted, so I cannot answer it again.")
TOO_LATE = phrase("What it answers was deleted, or I am shutting down.")
AT_IT = phrase("I am answering that already.")
TAKEN_BACK = phrase("You took back your last message, so I answer none of those together with it.")
STALE = phrase("I could not answer that in time. Please ask again.")

LAST_WORDS_S = 3.0
"""Seconds that replies get to show how far they came when the bot stops."""

OnReply = Callable[[ReplyRecord, str, str], Awaitable[None]]
"""Hears of each reply that was recorded: its record, what it answers, what it says."""


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
        watching: Watching | None = None,
        filters: Filters | None = None,
        silence: Silence | None = None,
        stale_s: float = 120.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._store = store
        self._worker = worker
        self._models = models
        self._context_messages = context_messages
        self._params = params
        self._bot_id = bot_id
        self._on_reply = on_reply
        self._watching = watching or Watching(Metrics())
        self._silence = silence or Silence(store)
        self._stale_s = stale_s
        self._clock = clock
        self._turns = Turns()
        self._unwritten = Unwritten()
        self._tongue = Tongue(worker)
        self._changes: dict[int, str | None] = {}
        self._speaker = Speaker(
            worker,
            filters or Filters(store, params.banned_words),
            patience or Patience(0, lambda: None),
        )
        self.asker = self._speaker.asker
        self.stop = self._speaker.stop
        self.hush = self._speaker.hush

    async def answer(self, incoming: Incoming, surface: Surface) -> Finished | None:
        """Take a turn: record the message, let the model answer, record the reply.

        Turns of a channel follow each other in the order of these calls. None if the message came
        before, was deleted before it was answered, the reply to the next one answers it too, what
        came out must not be said, or the bot is closing. What cannot be written down, since the
        disk is full, is answered all the same, and a note says so.

        Raises:
            Held: too many wait in the channel, or the bot was paused meanwhile, so it was not
                recorded; or it waited too long.
            ModelError, StoreError: there is no reply; the message stays in the history.
        """
        asked_id, channel_id, since = incoming.asked_id, incoming.channel_id, self._clock()
        if self._changes:
            await self._write_changes()
        by = incoming.asked_by if incoming.in_bursts else None
        if self.asker(asked_id) is not None:
            return None  # Discord sent it twice
        with (
            self._watching.reply(incoming) as watched,
            self._speaker.live(incoming, surface, watched) as live,
        ):
            async with self._turns.turn(channel_id, asked_id, by) as ours:
                if self._turns.closing:
                    await surface.fail(say(CLOSING))
                return await self._answer(incoming, live, since) if ours else None

    async def _answer(self, incoming: Incoming, live: Live, since: float) -> Finished | None:
        """It is the message's turn; it waits since then."""
        channel_id, message = incoming.channel_id, _heard(incoming)
        self._silence.check(channel_id, incoming.scope)
        live.begun = True
        is_new, unwritten = await self._write_down(message)
        if not is_new:
            live.watched.lost = "repeated"
            return None
        if not unwritten and self._turns.goes_on(channel_id):
            live.watched.lost = "merged"
            return None
        shared = self._turns.is_shared(channel_id)
        self._check_age(channel_id, since)
        seen = await self._store.context(channel_id, self._context_messages)
        if unwritten:
            seen = [*seen, message][-self._context_messages :]
        serving = await self._models.serving(incoming.scope)
        request = Request.to(incoming, seen, serving, self._params)
        reply = await self._reply(request, live, unwritten)
        if live.gone and shared:  # who wrote those before still waits
            await live.surface.fail(say(TAKEN_BACK))
        return reply

    async def _write_down(self, message: StoredMessage) -> tuple[bool, Phrase | None]:
        """Whether it is a new one, and what to tell people if it cannot be written down."""
        try:
            return await self._store.add_message(message), None
        except StoreError as e:
            return True, self._unwritten.note(e)

    def _check_age(self, channel_id: int, since: float) -> None:
        """Let go of what waited too long; a channel is told once, until a message is in time."""
        if self._clock() - since > self._stale_s:
            raise Held(STALE, told=self._turns.was_told(channel_id, STALE))
        self._turns.may_be_told(channel_id, STALE)

    async def again(self, record: ReplyRecord, surface: Surface) -> Finished:
        """Make a reply anew with another seed; it takes the place of the old one.

        It reads what is still there of what the old one read. Likes and dislikes of that go.

        Raises:
            Refusal: there is nothing to answer any more, or it is being answered; or what came out
                must not be said, or the bot is paused.
            ModelError, StoreError: there is no new reply; the old one stays in the history.
        """
        if self.asker(record.asked_id) is not None:
            raise Refusal(AT_IT)
        since = self._clock()
        with (
            self._watching.reply(record) as watched,
            self._speaker.live(record, surface, watched) as live,
        ):
            async with self._turns.turn(record.channel_id, record.asked_id) as ours:
                self._silence.check(record.channel_id, record.scope)
                live.begun = True
                self._check_age(record.channel_id, since)
                seen = await self._store.messages(record.seen) if ours else []
                if not seen or seen[-1].discord_id != record.asked_id:
                    raise Refusal(GONE if ours else TOO_LATE)
                serving = await self._models.serving(record.scope)
                params = replace(self._params, seed=another_seed(record.seed))
                request = Request.to(record, seen, serving, params)
                reply = await self._reply(request, live, anew=True)
                if reply is None:
                    raise Refusal(GONE if live.gone else WITHHELD)
                return reply

    async def _reply(
        self, request: Request, live: Live, unwritten: Phrase | None = None, *, anew: bool = False
    ) -> Finished | None:
        surface = live.surface
        reply = await self._speaker.say(live, request)
        if reply is None:
            return None
        if not reply.text.strip():  # it was stopped before its first word
            await surface.fail(say(CLOSING if self._turns.closing else STOPPED))
            return reply
        weak = self._tongue.note(request)
        reply_id = await surface.finish(reply.text, _notes(request, weak, unwritten))
        if live.gone:
            await surface.remove()
            return None
        if unwritten:  # and so is what answers it
            return reply
        record = request.record(reply_id, reply)
        try:
            recorded = await self._record(record, reply.text, anew)
        except StoreError as e:
            await surface.finish(reply.text, _notes(request, weak, self._unwritten.note(e)))
            return reply
        await self._read_ahead(request)
        if recorded:
            await self._tell(record, request.asked, reply.text)
        return reply

    async def _record(self, record: ReplyRecord, text: str, anew: bool) -> bool:
        """Write a reply down; whether what it answers is still there."""
        recorded = await self._store.add_reply(record)
        if anew:
            await self._store.edit_message(record.reply_id, text)
            await self._store.drop_ratings(record.reply_id)
        else:
            await self._store.add_message(self._said(record, text), answering=record.asked_id)
        return recorded

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
        """A message was edited: the history says what it says now.

        If that cannot be written now, it is with the next message.
        """
        self._changes[discord_id] = text
        await self._write_changes()

    async def deleted(self, discord_ids: Collection[int]) -> None:
        """Messages were deleted: they leave the history, lose their turn if they wait, and a reply
        to one that is under way ends and goes."""
        self._turns.withdraw(discord_ids)
        self._speaker.forget(discord_ids)
        self._changes |= dict.fromkeys(discord_ids)
        await self._write_changes()

    async def _write_changes(self) -> None:
        """Change and erase what was changed and deleted in Discord."""
        changes = dict(self._changes)
        try:
            for discord_id, text in changes.items():
                if text is not None:
                    await self._store.edit_message(discord_id, text)
            gone = [discord_id for discord_id, text in changes.items() if text is None]
            await self._store.delete_messages(gone)
        except StoreError as e:
            self._unwritten.note(e)
            return
        for discord_id, text in changes.items():
            if self._changes.get(discord_id, "") == text:
                self._changes.pop(discord_id, None)

    @property
    def turns(self) -> Mapping[str, int]:
        """How many turns are `running`, and how many wait for one before them."""
        return self._turns.count()

    async def drain(self, seconds: float) -> None:
        """Begin no new turn and wait at most that long for those under way; what is still being
        written then ends where it is."""
        if not await self._turns.drain(seconds):
            self._speaker.cut()
            await self._turns.drain(LAST_WORDS_S)


def _notes(request: Request, *others: str | None) -> str | None:
    """The small line under a reply."""
    return say(together(filter(None, (request.serving.note, *others)))) or None


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

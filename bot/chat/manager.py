"""The conversation: each channel's history, one turn at a time, the last messages as context.

Does not know Discord: a reply appears in a `ReplySink`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from cachetools import LRUCache

from bot.chat.admission import Pauses
from bot.chat.errors import NotAdmitted
from bot.chat.filters import REPLY_WITHHELD
from bot.chat.generation import SHUTTING_DOWN, ActiveReply, ReplyGenerator, ReplyState
from bot.chat.known import LookUp, nothing_known
from bot.chat.model_router import ModelRouter, Serving
from bot.chat.queue import ChannelQueue
from bot.chat.request import Incoming, ReplyRequest, ReplySink, next_seed
from bot.chat.telemetry import WITHHELD, ReplyTelemetry
from bot.judgement.canary import Canaries
from bot.judgement.duel import DuelDraw, Duels
from core.errors import DiskFull, Refusal, StoreError
from core.japanese import is_english, is_japanese
from core.records import Message, ReplyFault, ReplyRecord, Role, StoredMessage
from core.throttle import Throttle
from data.storage.tables.messages import Messages, Replies
from i18n.catalogue import ENGLISH, JAPANESE
from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.errors import GenerationFailed
from model.registry import ModelOption, embedded_name
from model.sampling import FinishReason, SamplingParams
from model.worker.messages import Finished, Rendered

log = logging.getLogger(__name__)

STOPPED = phrase("Stopped.")
PROMPT_DELETED = phrase("What it answers was deleted, so I cannot answer it again.")
DELETED_OR_CLOSING = phrase("What it answers was deleted, or I am shutting down.")
ALREADY_ANSWERING = phrase("I am answering that already.")
BURST_WITHDRAWN = phrase(
    "You took back your last message, so I answer none of those together with it."
)
TIMED_OUT = phrase("I could not answer that in time. Please ask again.")

DISK_FULL = phrase("I cannot write this down: the disk is full.")
WRITE_FAILED = phrase("I cannot write this down. The operator can read why in the log.")

LOG_INTERVAL_S = 60.0
"""Seconds between two log lines about failed writes."""
MAX_NOTIFIED_CHANNELS = 10_000
"""Channels remembered as told about the model's Japanese; the oldest is told once more."""
FINAL_DRAIN_TIMEOUT_S = 3.0
"""Seconds that replies get to show how far they came when the bot stops."""

OnReply = Callable[[ReplyRecord, str, str], Awaitable[None]]
"""Called with each reply that was recorded and that nobody stopped: its record, the prompt, the
text of the reply."""


@dataclass(frozen=True, slots=True)
class ChatPolicy:
    """How replies are made: `params` for the sampling (with `own_temperature` at the model's own
    temperature), which `shape` changes for a scope; the length of the context, and the wait after
    which a message is not answered any more. `bot_id` is the author of replies; it is known only
    once the bot has logged in."""

    bot_id: Callable[[], int]
    params: SamplingParams = field(default_factory=SamplingParams)
    own_temperature: bool = True
    shape: Callable[[int, SamplingParams], SamplingParams] = lambda _scope, params: params
    context_messages: int = 5
    stale_s: float = 120.0


class WriteFailures:
    """People are always told that something was not recorded, the log once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._throttle = Throttle(LOG_INTERVAL_S, clock)

    def report(self, error: StoreError) -> Phrase:
        """The note under a reply that, or whose question, was not recorded."""
        if self._throttle.ready():
            log.error("replies are given, but not recorded: %s", error)
        return DISK_FULL if isinstance(error, DiskFull) else WRITE_FAILED


class ConversationManager:
    """The conversations of all channels."""

    def __init__(
        self,
        messages: Messages,
        replies: Replies,
        worker: GenerationBackend,
        models: ModelRouter,
        generator: ReplyGenerator,
        telemetry: ReplyTelemetry,
        pauses: Pauses,
        policy: ChatPolicy,
        on_reply: OnReply | None = None,
        look_up: LookUp = nothing_known,
        duels: Duels | None = None,
        canaries: Canaries | None = None,
    ) -> None:
        self._messages = messages
        self._replies = replies
        self._worker = worker
        self._models = models
        self.generator = generator
        self._telemetry = telemetry
        self._pauses = pauses
        self._context_messages = policy.context_messages
        self._params = policy.params
        self._own_temperature = policy.own_temperature
        self._shape = policy.shape
        self._bot_id = policy.bot_id
        self._stale_s = policy.stale_s
        self._on_reply = on_reply
        self._look_up = look_up
        self._duels = duels
        self._canaries = canaries
        self._clock = time.monotonic
        self._queue = ChannelQueue()
        self._write_failures = WriteFailures()
        self._told_of_language: LRUCache[tuple[int, str], None] = LRUCache(MAX_NOTIFIED_CHANNELS)
        self._pending_changes: dict[int, str | None] = {}

    async def answer(self, incoming: Incoming, sink: ReplySink) -> Finished | None:
        """Take a turn: record the message, let the model answer, record the reply.

        Turns of a channel follow each other in the order of these calls. None if the message came
        before, was deleted before it was answered, the reply to the next one answers it too, what
        came out must not be said, or the bot is closing. What cannot be written down, since the
        disk is full, is answered all the same, and a note says so.

        Raises:
            NotAdmitted: too many wait in the channel, or the bot was paused meanwhile, so it was
                not recorded; or it waited too long.
            ModelError, StoreError: there is no reply; the message stays in the history.
        """
        asked_id, channel_id, since = incoming.asked_id, incoming.channel_id, self._clock()
        if self._pending_changes:
            await self._flush_changes()
        by = incoming.asked_by if incoming.merge_bursts else None
        if self.generator.asker_of(asked_id) is not None:
            return None  # Discord sent it twice
        with (
            self._telemetry.trace(incoming) as trace,
            self.generator.track(incoming, sink, trace) as live,
        ):
            async with self._queue.wait_for_slot(channel_id, asked_id, by) as wanted:
                if self._queue.closing:
                    await sink.fail(say(SHUTTING_DOWN))
                return await self._answer(incoming, live, since) if wanted else None

    async def _answer(self, incoming: Incoming, live: ActiveReply, since: float) -> Finished | None:
        """Answer a message whose turn has come; it has been waiting since `since`."""
        channel_id, message = incoming.channel_id, _as_stored_message(incoming)
        self._pauses.check(channel_id, incoming.scope)
        live.begin()
        is_new, unsaved = await self._record_message(message)
        if not is_new and not incoming.resumed:
            live.trace.drop_reason = "repeated"
            return None
        if not unsaved and self._queue.merges_into_next(channel_id):
            live.trace.drop_reason = "merged"
            return None
        shared = self._queue.take_merged(channel_id)
        self._reject_if_stale(channel_id, since)
        seen = await self._messages.context(channel_id, self._context_messages)
        if unsaved:
            seen = [*seen, message][-self._context_messages :]

        async def request_by(serving: Serving) -> ReplyRequest:
            params = self._params_for(incoming.scope, serving.option)
            request = ReplyRequest(incoming, tuple(seen), serving, params)
            return await self._with_known(request, by_model=shared)

        request = await request_by(await self._models.serving(incoming.scope, channel_id))
        pair = None
        if self._duels is not None and (show := incoming.show_pair) and not unsaved:
            pair = await self._duels.draw(request, lambda one: request_by(Serving(one)), show)
        reply = await self._reply(pair.upper if pair else request, live, unsaved, pair=pair)
        if live.is_deleted and shared:  # who wrote those before still waits
            await live.sink.fail(say(BURST_WITHDRAWN))
        return reply

    async def _record_message(self, message: StoredMessage) -> tuple[bool, Phrase | None]:
        """Whether it is new, and the note for people if it could not be saved."""
        try:
            return await self._messages.add(message), None
        except StoreError as e:
            return True, self._write_failures.report(e)

    def _reject_if_stale(self, channel_id: int, since: float) -> None:
        """Refuse a message that waited too long. A channel is told once, until one is in time."""
        if self._clock() - since > self._stale_s:
            raise NotAdmitted(
                TIMED_OUT, already_notified=self._queue.mark_notified(channel_id, TIMED_OUT)
            )
        self._queue.clear_notified(channel_id, TIMED_OUT)

    async def regenerate(self, record: ReplyRecord, sink: ReplySink) -> Finished:
        """Replace a reply by a new one, generated with another seed.

        The context is what still exists of the old reply's. Ratings of the old reply are cleared.

        Raises:
            Refusal: there is nothing to answer any more, or it is being answered; or what came out
                must not be said, or the bot is paused.
            ModelError, StoreError: there is no new reply; the old one stays in the history.
        """
        if self.generator.asker_of(record.asked_id) is not None:
            raise Refusal(ALREADY_ANSWERING)
        since = self._clock()
        with (
            self._telemetry.trace(record) as trace,
            self.generator.track(record, sink, trace) as live,
        ):
            async with self._queue.wait_for_slot(record.channel_id, record.asked_id) as wanted:
                self._pauses.check(record.channel_id, record.scope)
                live.begin()
                self._reject_if_stale(record.channel_id, since)
                seen = await self._messages.get_many(record.seen) if wanted else []
                if not seen or seen[-1].discord_id != record.asked_id:
                    raise Refusal(PROMPT_DELETED if wanted else DELETED_OR_CLOSING)
                serving = await self._models.serving(record.scope, record.channel_id)
                params = self._params_for(record.scope, serving.option)
                params = replace(params, seed=next_seed(record.seed))
                request = await self._with_known(
                    ReplyRequest(record, tuple(seen), serving, params), by_model=True
                )
                reply = await self._reply(request, live, regenerated=True)
                if reply is None:
                    raise Refusal(PROMPT_DELETED if live.is_deleted else REPLY_WITHHELD)
                return reply

    async def _with_known(self, request: ReplyRequest, *, by_model: bool) -> ReplyRequest:
        """The request with what is known about it; `by_model`: the model answers all the same,
        since somebody wants another reply, or several messages are answered together."""
        source = request.serving.option.source
        known = await self._look_up(request.target.scope, source, request.asked_text)
        return replace(request, known=known.without_answer() if by_model else known)

    async def _reply(
        self,
        request: ReplyRequest,
        live: ActiveReply,
        unsaved: Phrase | None = None,
        *,
        regenerated: bool = False,
        pair: DuelDraw | None = None,
    ) -> Finished | None:
        sink = live.sink
        reply = await self._generate(request, live)
        if reply is None:
            return None
        if live.fell_back:
            request = replace(request, known=request.known.with_expected())
        if not reply.text.strip():  # it was stopped before its first word
            await self._note_end(request, live, reply)
            await sink.fail(say(SHUTTING_DOWN if self._queue.closing else STOPPED))
            return reply
        if pair is not None and await self._show_pair(pair, live, reply):
            return None if live.is_deleted else reply
        return await self._show(request, live, reply, unsaved, regenerated=regenerated)

    async def _show(
        self,
        request: ReplyRequest,
        live: ActiveReply,
        reply: Finished,
        unsaved: Phrase | None,
        *,
        regenerated: bool,
    ) -> Finished | None:
        """Show a reply to its end, and record it."""
        sink = live.sink
        language_notice = self._language_notice(request)
        reply_id = await sink.finish(reply.text, _footnote(request, language_notice, unsaved))
        if live.is_deleted:
            await sink.remove()
            return None
        if unsaved:  # and so is what answers it
            return reply
        record = request.record(reply_id, reply)
        try:
            recorded = await self._record_reply(record, reply.text, regenerated)
        except StoreError as e:
            await sink.finish(
                reply.text, _footnote(request, language_notice, self._write_failures.report(e))
            )
            return reply
        await self._prefill_next_context(request)
        await self._note_end(request, live, reply, record.reply_id)
        if recorded and _is_whole(reply) and request.known.answer is None:
            await self._notify_listener(record, request.asked_text, reply.text)
        return reply

    async def _generate(self, request: ReplyRequest, live: ActiveReply) -> Finished | None:
        """Generate a reply. A canary is judged by what goes wrong with its own."""
        try:
            reply = await self.generator.generate(live, request)
        except GenerationFailed:
            await self._note_fault(request, ReplyFault.FAILED)
            raise
        if reply is None and live.trace.drop_reason == WITHHELD:
            await self._note_fault(request, ReplyFault.WITHHELD)
        return reply

    async def _note_end(
        self,
        request: ReplyRequest,
        live: ActiveReply,
        reply: Finished,
        reply_id: int | None = None,
    ) -> None:
        """A reply has ended: note if somebody stopped it, and have the canary judged. Of a pair,
        the first one may be whole when the second is stopped."""
        target = request.target
        stopped = live.state is ReplyState.STOPPED and not _is_whole(reply)
        if stopped and not self._pauses.is_paused(target.scope):
            await self._note_fault(request, ReplyFault.STOPPED, reply_id)
        elif self._canaries is not None:
            await self._canaries.check(target.scope)

    async def _note_fault(
        self, request: ReplyRequest, fault: ReplyFault, reply_id: int | None = None
    ) -> None:
        if self._canaries is None or request.known.answer is not None:
            return
        model = request.serving.option.name
        await self._canaries.note_fault(request.target, model, fault, reply_id)
        await self._canaries.check(request.target.scope)

    async def _show_pair(self, pair: DuelDraw, live: ActiveReply, upper: Finished) -> bool:
        """Show a second answer beside the first and record both; False if there is none, or they
        do not fit into one message: then the first one is still to be shown."""
        lower = await self.generator.generate_beside(live, pair.lower)
        reply_id = await pair.show(upper.text, lower.text) if lower else None
        if self._duels is None or lower is None or reply_id is None:
            return False
        if live.is_deleted:
            await live.sink.remove()
            return True
        try:
            record = pair.upper.record(reply_id, upper)
            await self._record_reply(record, upper.text, regenerated=False)
            await self._duels.keep(pair, reply_id, lower)
        except StoreError as e:
            await live.sink.finish(upper.text, say(self._write_failures.report(e)))
        else:
            await self._note_end(pair.upper, live, upper, reply_id)
        return True

    async def _record_reply(self, record: ReplyRecord, text: str, regenerated: bool) -> bool:
        """Save a reply; False if the message that it answers was deleted."""
        recorded = await self._replies.add(record)
        if regenerated:
            await self._messages.edit(record.reply_id, text)
            await self._replies.clear_ratings(record.reply_id)
        else:
            await self._messages.add(
                self._as_stored_reply(record, text), reply_to_id=record.asked_id
            )
        return recorded

    async def _prefill_next_context(self, request: ReplyRequest) -> None:
        """Let the worker prefill the next context: all of it but the message to come. It is read
        again, since messages may have been deleted or erased while the reply was made."""
        known = await self.conversation_history(request.target.channel_id)
        begins = known[len(known) - min(len(known), self._context_messages - 1) :]
        self._worker.prefetch(request.serving.option.source, begins, request.target.channel_id)

    def _params_for(self, scope: int, option: ModelOption) -> SamplingParams:
        params = self._params
        if self._own_temperature and option.temperature != params.temperature:
            params = replace(params, temperature=option.temperature)
        return self._shape(scope, params)

    def _language_notice(self, request: ReplyRequest) -> str | None:
        """What a person reads, once per channel, whose language the model hardly knows. A stand-in
        says nothing of itself: it will soon be replaced."""
        info = self._worker.models.get(request.serving.option.source)
        if info is None or request.serving.note or request.known.answer:
            return None
        text, channel_id = request.asked_text, request.target.channel_id
        name = request.serving.option.name
        if not info.japanese and not text.isascii() and is_japanese(text):
            language, said = JAPANESE, phrase("{name} knows little Japanese.", name=name)
        elif info.japanese and is_english(text):
            language, said = ENGLISH, phrase("{name} knows little English.", name=name)
        else:
            return None
        if (channel_id, language) in self._told_of_language:
            return None
        self._told_of_language[channel_id, language] = None
        in_server = request.target.scope != request.target.asked_by
        advice = phrase(
            "A manager can switch to a model that speaks it: `/model use {other}`.",
            other=embedded_name(language),
        )
        return join_phrases([said, advice] if in_server else [said]).translate_to(language)

    async def _notify_listener(self, record: ReplyRecord, asked: str, reply: str) -> None:
        if self._on_reply is None:
            return
        try:
            await self._on_reply(record, asked, reply)
        except Exception:
            log.exception("the listener failed on reply %d", record.reply_id)

    @cached_property
    def _author_id(self) -> int:
        return self._bot_id()  # no reply comes before the login that tells it

    def _as_stored_reply(self, record: ReplyRecord, text: str) -> StoredMessage:
        """The reply as a message of the history."""
        return StoredMessage(
            discord_id=record.reply_id,
            channel_id=record.channel_id,
            author_id=self._author_id,
            message=Message(Role.ASSISTANT, text),
            created_at=record.created_at,
            scope=record.scope,
        )

    async def conversation_history(self, channel_id: int) -> list[Message]:
        """The context: the last messages of the channel since its reset, oldest first."""
        stored = await self._messages.context(channel_id, self._context_messages)
        return [one.message for one in stored]

    async def context(self, channel_id: int, scope: int) -> tuple[Serving, Rendered | None]:
        """What the model would see now, and which model; None where nothing was said yet."""
        serving = await self._models.serving(scope, channel_id)
        history = await self.conversation_history(channel_id)
        if not history:
            return serving, None
        longest = self._params_for(scope, serving.option).max_new_tokens
        rendered = await self._worker.render(serving.option.source, history, longest)
        return serving, rendered

    async def reset(self, channel_id: int) -> None:
        """Forget the channel's context from here on, once the turn under way is over."""
        async with self._queue.exclusive(channel_id):
            await self._messages.reset_context(channel_id)

    async def apply_edit(self, discord_id: int, text: str) -> None:
        """Apply an edit in Discord to the history; the next message retries what fails."""
        self._pending_changes[discord_id] = text
        await self._flush_changes()

    async def apply_deletions(self, discord_ids: Collection[int]) -> None:
        """Apply deletions in Discord: the messages leave the history and the queue, and a reply to
        one of them is stopped and removed."""
        self._queue.withdraw(discord_ids)
        self.generator.cancel_deleted(discord_ids)
        self._pending_changes |= dict.fromkeys(discord_ids)
        await self._flush_changes()

    async def _flush_changes(self) -> None:
        """Write the edits and deletions that are still pending."""
        changes = dict(self._pending_changes)
        try:
            for discord_id, text in changes.items():
                if text is not None:
                    await self._messages.edit(discord_id, text)
            gone = [discord_id for discord_id, text in changes.items() if text is None]
            await self._messages.delete(gone)
        except StoreError as e:
            self._write_failures.report(e)
            return
        for discord_id, text in changes.items():
            if self._pending_changes.get(discord_id, "") == text:
                self._pending_changes.pop(discord_id, None)

    @property
    def queue_counts(self) -> Mapping[str, int]:
        """How many turns are `running`, and how many are `waiting`."""
        return self._queue.count()

    async def drain(self, seconds: float) -> None:
        """Start no new turn and wait for those in progress; after `seconds`, they end where they
        are."""
        if not await self._queue.drain(seconds):
            self.generator.abort_all()
            await self._queue.drain(FINAL_DRAIN_TIMEOUT_S)


def _footnote(request: ReplyRequest, *others: str | None) -> str | None:
    """The small line under a reply: who taught it, or else why another model answers."""
    answer = request.known.answer
    origin = answer.note if answer else request.serving.note
    return say(join_phrases(filter(None, (origin, *others)))) or None


def _is_whole(reply: Finished) -> bool:
    """Whether the model said all that it wanted to."""
    return reply.finish_reason in (FinishReason.END, FinishReason.LENGTH)


def _as_stored_message(incoming: Incoming) -> StoredMessage:
    """What a person said as a message of the history."""
    return StoredMessage(
        discord_id=incoming.asked_id,
        channel_id=incoming.channel_id,
        author_id=incoming.asked_by,
        message=Message(Role.USER, incoming.get_text()),
        created_at=datetime.now(UTC),
        scope=incoming.scope,
    )

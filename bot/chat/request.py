"""What a reply is made from, where it appears, and the record of it. Values only: no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from random import Random
from typing import Protocol, Self

from bot.chat.filters import Blocked, OutputGuard
from bot.chat.known import NOTHING_KNOWN, Known, Misplaced
from bot.chat.model_router import Serving
from core.records import ReplyRecord, StoredMessage
from model.sampling import SamplingParams
from model.worker.messages import Finished

MAX_REPLY_CHARS = 4000
"""Two or three Discord messages. One GPT-2 token can be dozens of characters long."""
TRUNCATION_MARK = " …"
"""Ends a reply that was cut."""

TextCheck = Callable[[str], None]
"""Raises an error if a text must not be shown."""


ShowPair = Callable[[str, str], Awaitable[int | None]]
"""Shows two answers to choose from; the id under which they are known, None if they do not fit."""


class ReplySink(Protocol):
    """Where a reply appears."""

    async def show_queue_position(self, place: int) -> None:
        """Show that others are answered first."""

    async def add(self, text: str, check: TextCheck) -> None:
        """Show another piece, now or with a later one; the whole text is checked before."""

    def restart(self) -> None:
        """What came so far is not wanted: the next piece begins another text in its place."""

    async def remove(self) -> None:
        """Take away all that was shown."""

    async def finish(self, text: str, note: str | None = None) -> int:
        """Show all of it; the id under which the reply is known."""

    async def fail(self, reason: str) -> None:
        """Show why there is no reply."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that wants an answer.

    `get_text` is asked for when its turn comes: the message may have been edited while it waited.
    With `merge_bursts` it shares its turn with the next message of the same person, if that waits
    already. `resumed`: the bot was killed before it answered, so it may be in the history already.
    Without `show_pair` there is only one answer, also in a duel.
    """

    asked_id: int
    channel_id: int
    scope: int
    asked_by: int
    get_text: Callable[[], str]
    merge_bursts: bool = False
    resumed: bool = False
    show_pair: ShowPair | None = None


class ReplyTarget(Protocol):
    """What asks for a reply: a message that came in, or the record of an earlier reply to it."""

    @property
    def asked_id(self) -> int: ...
    @property
    def asked_by(self) -> int: ...
    @property
    def channel_id(self) -> int: ...
    @property
    def scope(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """A reply to `target`, the last of the messages in `context`, by the model `serving`.

    `known`: what is known about it. A reply has none of the phrases `avoided`.
    """

    target: ReplyTarget
    context: tuple[StoredMessage, ...]
    serving: Serving
    params: SamplingParams
    known: Known = NOTHING_KNOWN
    avoided: tuple[str, ...] = ()

    def with_guard(self, guard: OutputGuard) -> Self:
        """The same, with what must not be said not even drawn."""
        params = guard.with_banned_words(self.params)
        return self if params is self.params else replace(self, params=params)

    def after(self, fault: Blocked) -> Self:
        """The same with another seed; the start of a misplaced answer is not drawn again, and
        nothing of it is recorded."""
        seed = self.params.seed
        another = None if seed is None else next_seed(seed)
        start = fault.start if isinstance(fault, Misplaced) else ""
        return replace(
            self,
            params=replace(self.params, seed=another),
            avoided=(*self.avoided, start) if start else self.avoided,
        )

    @property
    def drawn_params(self) -> SamplingParams:
        """The settings with which the reply is drawn."""
        banned = (*self.params.banned_words, *self.avoided)
        return replace(self.params, banned_words=banned) if self.avoided else self.params

    @property
    def asked_text(self) -> str:
        """What the reply answers."""
        said = (
            one.message.content for one in self.context if one.discord_id == self.target.asked_id
        )
        return next(said, "")

    def record(self, reply_id: int, reply: Finished) -> ReplyRecord:
        """What is kept of how the reply was made."""
        sampling = asdict(self.params)
        del sampling["seed"]  # that of the record is the one that was drawn
        given = self.known.answer
        return ReplyRecord(
            reply_id=reply_id,
            channel_id=self.target.channel_id,
            scope=self.target.scope,
            asked_id=self.target.asked_id,
            asked_by=self.target.asked_by,
            model=self.serving.option.name,
            source=self.serving.option.source,
            seen=tuple(one.discord_id for one in self.context),
            cut=reply.truncated_messages,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.new_tokens,
            seed=None if given else reply.seed,
            sampling=sampling,
            seconds=reply.seconds,
            created_at=datetime.now(UTC),
            first_s=reply.first_token_s,
            example_id=given.example_id if given else None,
        )


def recorded_sampling(record: ReplyRecord) -> SamplingParams:
    """The settings that make this very reply again; those it does not know are the usual ones."""
    known = {field.name for field in fields(SamplingParams)}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record.sampling.items()
        if name in known
    }
    return replace(SamplingParams(**values), seed=record.seed)  # type: ignore[arg-type]


def next_seed(seed: int | None) -> int:
    """A seed that follows from the last one, so that a fixed SEED stays repeatable.

    Not the next number: the engine tries that one itself when a reply comes out empty.
    """
    return Random(seed or 0).getrandbits(31)


def truncate_reply(reply: str) -> str:
    """A reply cut to MAX_REPLY_CHARS."""
    if len(reply) <= MAX_REPLY_CHARS:
        return reply
    return reply[: MAX_REPLY_CHARS - len(TRUNCATION_MARK)].rstrip() + TRUNCATION_MARK

"""A streaming reply in Discord: a message that grows by edits, continued in further messages; and
the typing indicator of replies that take a while.

Does not know models or storage. Edits are throttled by a clock, not by sleeping: text that arrives
too soon waits for the next piece or for the end. A failed edit is made up for by the next one; only
the final text is retried (`bot.discord_ui.delivery.requests`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import discord

from bot.chat.errors import NotAdmitted, ReplyDeleted
from bot.chat.request import TextCheck, truncate_reply
from bot.discord_ui.delivery.requests import (
    DISCORD_ERRORS,
    is_transient,
    new_nonce,
    retry_transient,
)
from bot.discord_ui.delivery.rest_traffic import RestTraffic
from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS, split_message
from bot.discord_ui.errors import error_message, is_expected
from i18n.reader import say

log = logging.getLogger(__name__)

FIRST_SEND_DELAY_S = 0.7
"""Seconds from the first word until it is shown; short replies are complete by then."""
EDIT_INTERVAL_S = 1.3
"""Seconds between two edits: Discord allows about five in five seconds per channel."""
TYPING_DELAY_S = 1.0
"""Seconds that a reply may take without an indicator: most are there by then."""
TYPING_INTERVAL_S = 8.0
"""Seconds between two typing requests: Discord shows each for ten."""

ViewFactory = Callable[[Sequence[int]], discord.ui.View]
"""Makes the buttons of a reply, given the ids of its messages before the one with the buttons."""


class PostedMessage(Protocol):
    """A message of ours that can be edited and deleted."""

    @property
    def id(self) -> int: ...

    async def edit(self, *, content: str, view: discord.ui.View | None = ...) -> object:
        """Change its text and, if `view` is given, its buttons (None: remove them)."""

    async def delete(self) -> None:
        """Delete it."""


class Send(Protocol):
    """Posts a message, with buttons if `view` is given; at most once with the same `nonce`."""

    async def __call__(
        self, content: str, *, nonce: str, view: discord.ui.View = ...
    ) -> PostedMessage: ...


@dataclass(slots=True)
class SinglePost:
    """A message that is posted once, however often that is tried.

    An earlier try may have posted its own text and buttons, only that its answer was lost: so a
    later one sets them again.
    """

    _nonce: str = field(default_factory=new_nonce)
    _was_tried: bool = False
    _posted: PostedMessage | None = None

    async def send(
        self, send: Send, text: str, view: discord.ui.View | None = None
    ) -> PostedMessage:
        """Try to post it."""
        is_retry, self._was_tried = self._was_tried, True
        if self._posted is None:
            buttons: dict[str, Any] = {"view": view} if view else {}
            self._posted = await send(text, nonce=self._nonce, **buttons)
        if is_retry:
            await self._posted.edit(content=text, view=view)
        return self._posted


class ReplyViews(NamedTuple):
    """The buttons of a reply while it is streaming, and when it is finished; None: no buttons."""

    streaming: ViewFactory | None = None
    finished: ViewFactory | None = None


NO_BUTTONS = ReplyViews()


@dataclass(frozen=True, slots=True)
class ReplacedReply:
    """An existing reply that a new one replaces: its messages, the content of each (None: not
    known), and its text without prefix and notes."""

    messages: Sequence[PostedMessage]
    parts: Sequence[str | None]
    text: str


def accept_any(_text: str) -> None:
    """A check that accepts every text."""


class StreamingReply:
    """A reply that is shown while it is generated.

    `first` posts its first message, `more` the following ones. `prefix` is shown before the text
    (the question, where Discord does not show it). The last message has the buttons. If it
    replaces another reply, `standing`, that is restored on failure. While `may_edit` says no,
    only the end is shown.
    """

    def __init__(
        self,
        first: Send,
        more: Send,
        *,
        prefix: str = "",
        rows: ReplyViews = NO_BUTTONS,
        standing: ReplacedReply | None = None,
        may_edit: Callable[[], bool] = lambda: True,
    ) -> None:
        self._send_first = first
        self._send_next = more
        self._prefix = prefix
        self._streaming_view, self._finished_view = rows
        self._last_view = self._finished_view
        self._replaced = standing
        self._may_edit = may_edit
        self._next_post = SinglePost()
        self._messages: list[PostedMessage] = []
        self._shown: list[tuple[str | None, ViewFactory | None]] = []
        if standing is not None:
            self._messages = list(standing.messages)
            self._shown = [(part, None) for part in standing.parts[:-1]]
            self._shown.append((standing.parts[-1], self._finished_view))
        self._part_count = 0
        self._text = ""
        self._visible_text = ""
        self._next_edit_at: float | None = None

    async def show_queue_position(self, place: int) -> None:
        """Show the position in the queue where the reply will be."""
        if self._may_edit():
            busy = say("-# I am busy: you are number {place} in the queue.", place=place)
            await self._try_show(busy)

    @property
    def started(self) -> bool:
        """Whether anything of it was shown."""
        return bool(self._messages) and self._part_count > 0

    @property
    def buttons_id(self) -> int | None:
        """The message with the buttons of the finished reply, or of the pair that is in its place;
        None if it has none."""
        row = self._shown[-1][1] if self._shown else None
        return self._messages[-1].id if row is not None and row is self._last_view else None

    @property
    def replaces(self) -> bool:
        """Whether there was a reply in its place before."""
        return self._replaced is not None

    async def add(self, text: str, check: TextCheck = accept_any) -> None:
        """Add a piece; it is shown with the next edit, once the text so far passes `check`."""
        self._text += text
        if self._next_edit_at is None:
            self._next_edit_at = time.perf_counter() + FIRST_SEND_DELAY_S
        is_due = time.perf_counter() >= self._next_edit_at
        if is_due and self._text.strip() and self._may_edit():
            seen = truncate_reply(self._text)
            check(seen)
            self._visible_text = seen
            await self._try_show(seen)

    def restart(self) -> None:
        """Discard the text so far: the next piece begins a new one in its place."""
        self._text = self._visible_text = ""

    async def remove(self) -> None:
        """Delete what was shown, or restore the replaced reply."""
        if self._replaced is not None:
            await self._show(self._replaced.text, self._finished_view)
        else:
            self._part_count = 0
        await self._delete_leftovers()

    async def finish(self, text: str, note: str | None = None) -> int:
        """Show the final text, with a small note under it; returns the id of the first message.

        If the final edit keeps failing for minutes, the text shown so far is left as it is.

        Raises:
            ReplyDeleted: somebody deleted it.
            discord.HTTPException, ...: one of `DISCORD_ERRORS`: nothing of it could be shown, or a
                permission is missing.
        """
        return await self._finish(f"{text}\n-# {note}" if note else text, self._finished_view)

    async def finish_in_one_message(self, text: str, row: ViewFactory) -> int | None:
        """Show the final text with buttons of its own, if one message can hold it; None if not:
        then nothing was shown. Otherwise as `finish`."""
        fits = len(_parts_of(self._prefix + text)) == 1
        return await self._finish(text, row) if fits else None

    async def _finish(self, text: str, row: ViewFactory | None) -> int:
        self._last_view = row
        try:
            await self._show_with_retry(text, row)
        except DISCORD_ERRORS as e:
            if not self._messages or not is_transient(e):
                raise
            log.warning("the end of the reply %d cannot be shown: %s", self._messages[0].id, e)
        await self._delete_leftovers()
        return self._messages[0].id

    async def fail(self, reason: str) -> None:
        """End the reply with the reason why there is no more of it, below what was shown; or
        restore the replaced reply.

        Raises:
            ReplyDeleted, discord.HTTPException, ...: as for `finish`.
        """
        if self._replaced is not None:
            await self._show_with_retry(self._replaced.text, self._finished_view)
        else:
            text = f"{self._visible_text}\n-# {reason}" if self._visible_text.strip() else reason
            await self._show_with_retry(text, None)
        await self._delete_leftovers()

    async def _try_show(self, text: str) -> None:
        """Show the text so far; if that fails for now, the next edit makes up for it."""
        try:
            await self._show(text, self._streaming_view)
        except DISCORD_ERRORS as e:
            if not is_transient(e):
                raise
            log.debug("a piece of a reply cannot be shown: %s", e)
        self._next_edit_at = time.perf_counter() + EDIT_INTERVAL_S

    async def _show_with_retry(self, text: str, row: ViewFactory | None) -> None:
        try:
            await self._show(text, row)
        except DISCORD_ERRORS as e:
            await retry_transient(e, lambda: self._show(text, row))

    async def _show(self, text: str, row: ViewFactory | None) -> None:
        parts = _parts_of(self._prefix + text)
        self._part_count = len(parts)
        try:
            for n, part in enumerate(parts):
                await self._put_part(n, part, row if n + 1 == len(parts) else None)
        except discord.NotFound as e:
            raise ReplyDeleted from e

    async def _put_part(self, n: int, part: str, row: ViewFactory | None) -> None:
        view = row([one.id for one in self._messages[:n]]) if row else None
        if n == len(self._messages):
            send = self._send_next if n else self._send_first
            self._messages.append(await self._next_post.send(send, part, view))
            self._next_post = SinglePost()
            self._shown.append((part, row))
        elif self._shown[n] != (part, row):
            changed = self._shown[n][1] is not row
            message = self._messages[n]
            await (message.edit(content=part, view=view) if changed else message.edit(content=part))
            self._shown[n] = (part, row)

    async def _delete_leftovers(self) -> None:
        """Delete the surplus messages of a longer text that was shown before."""
        while len(self._messages) > self._part_count:
            self._shown.pop()
            with suppress(*DISCORD_ERRORS):  # the reply itself is complete
                await self._messages.pop().delete()


def _parts_of(text: str) -> list[str]:
    """The messages that show a text: one, for nearly every reply."""
    if text.strip() and 2 * len(text) <= MAX_MESSAGE_CHARS:  # a character is at most two units
        return [text.strip()]
    return split_message(text)


def quote_question(text: str) -> str:
    """The question as a quote, shown above the answer where Discord does not show it."""
    return "".join(f"> {line}\n" for line in text.splitlines())


@asynccontextmanager
async def shown_on(
    reply: StreamingReply,
    client: discord.Client,
    asked_id: int,
    *,
    interaction: bool = False,
    typing: AbstractAsyncContextManager[None] | None = None,
) -> AsyncIterator[None]:
    """Show an error in the block at the end of the reply, so that none is left half-written; and
    that the bot is `typing`.

    An error of an `interaction` can also be answered apart from the reply: it is raised if nothing
    of the reply was shown, or if the reply that it was to replace was restored.

    Raises:
        discord.HTTPException, ...: one of `DISCORD_ERRORS`: nothing can be shown there.
    """
    try:
        async with typing or nullcontext():
            yield
    except ReplyDeleted:
        log.info("the reply to %s was deleted while it was written", asked_id)
    except DISCORD_ERRORS:
        raise
    except Exception as e:
        if client.is_closed():
            log.info("no reply to %s: I am shutting down", asked_id)
        elif interaction and not reply.started:
            raise
        elif interaction or not (isinstance(e, NotAdmitted) and e.already_notified):
            await _end_with(reply, e, asked_id)


async def _end_with(reply: StreamingReply, error: Exception, asked_id: int) -> None:
    with suppress(ReplyDeleted):
        await reply.fail(error_message(error))
    if reply.replaces:
        raise error  # the old reply is back, so the reason is not shown
    if not is_expected(error):
        log.exception("no reply to %s", asked_id)


class TypingIndicators:
    """Shows in each channel with a slow reply that the bot is typing."""

    def __init__(self, traffic: RestTraffic) -> None:
        self._traffic = traffic
        self._replies: Counter[int] = Counter()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def show(self, channel: discord.abc.MessageableChannel) -> AsyncIterator[None]:
        """Show it until the end of the block, if that takes long; its failures disturb nothing."""
        self._replies[channel.id] += 1
        if self._replies[channel.id] == 1:
            self._tasks[channel.id] = asyncio.create_task(self._keep_typing(channel), name="typing")
        try:
            yield
        finally:
            self._replies[channel.id] -= 1
            if not self._replies[channel.id]:
                del self._replies[channel.id]
                task = self._tasks.pop(channel.id)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _keep_typing(self, channel: discord.abc.Messageable) -> None:
        await asyncio.sleep(TYPING_DELAY_S)
        while True:
            try:
                if self._traffic.may_type():
                    await channel.typing()
            except DISCORD_ERRORS as e:
                log.debug("cannot show that I am typing: %s", e)
                if not is_transient(e):
                    return
            await asyncio.sleep(TYPING_INTERVAL_S)

"""How fast people may ask, how much they may write at once, and how much the bot says.

Knows ids, lengths and a clock. Does not know Discord, nor what a reply is made of.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bot.chat.errors import NotAdmitted
from core.errors import Refusal
from i18n.phrase import phrase, phrases

WINDOW_S = 60.0
MIN_COOLDOWN_S = 10.0
"""The shortest cooldown: who is too quick all the time is told so every ten seconds at most."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Usage:
    """When something was used of late, until when it cools down, and where that was told."""

    used_at: deque[float]
    cooldown_until: float = -math.inf
    notified: set[int] = field(default_factory=set)


class RateLimit:
    """At most `most` uses in any minute, for each key on its own; 0: as many as one likes.

    When they are used up, a cooldown begins, until the oldest of them is a minute old, and of
    COOLDOWN_S seconds at least. What was not used for a minute is forgotten.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._limit = most
        self._clock = clock
        self._usage: OrderedDict[int, Usage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._usage)

    def retry_after(self, key: int) -> float:
        """Seconds until there may be another use; 0: now."""
        now = self._clock()
        self._evict_idle(now)
        uses = self._usage.get(key)
        if uses is None:
            return 0.0
        over = uses.used_at[0] + WINDOW_S
        if uses.cooldown_until <= now and len(uses.used_at) == self._limit and over > now:
            uses.cooldown_until = max(over, now + MIN_COOLDOWN_S)
            uses.notified.clear()
        return max(0.0, uses.cooldown_until - now)

    def record_use(self, key: int) -> None:
        """Use it once."""
        if self._limit:
            uses = self._usage.setdefault(key, Usage(deque(maxlen=self._limit)))
            uses.used_at.append(self._clock())
            self._usage.move_to_end(key)

    def mark_notified(self, key: int, where: int) -> bool:
        """Whether this cooldown was told there before; it counts as told now."""
        told = self._usage[key].notified
        before = where in told
        told.add(where)
        return before

    def _evict_idle(self, now: float) -> None:
        """Let go of what nobody used for a minute; the longest unused comes first."""
        while self._usage:
            uses = next(iter(self._usage.values()))
            if max(uses.used_at[-1] + WINDOW_S, uses.cooldown_until) > now:
                return
            self._usage.popitem(last=False)


class RateLimits:
    """What is asked of people, so that there is something left for the others."""

    def __init__(
        self,
        *,
        member_per_minute: int,
        server_per_minute: int,
        longest_message: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._max_message_chars = longest_message
        self._members = RateLimit(member_per_minute, clock)
        self._servers = RateLimit(server_per_minute, clock)

    def admit(self, member_id: int, guild_id: int | None, channel_id: int) -> None:
        """Let somebody ask for a reply, and count it; in a direct message `guild_id` is None.

        Raises:
            NotAdmitted: they, or all of the server together, are too quick. Nothing is counted
                then.
        """
        if wait := self._members.retry_after(member_id):
            told = self._members.mark_notified(member_id, member_id)
            raise NotAdmitted(
                phrases(
                    "You are quicker than I am: ask me again in {count} second.",
                    "You are quicker than I am: ask me again in {count} seconds.",
                    math.ceil(wait),
                ),
                already_notified=told,
            )
        if guild_id is not None and (wait := self._servers.retry_after(guild_id)):
            told = self._servers.mark_notified(guild_id, channel_id)
            raise NotAdmitted(
                phrases(
                    "All of you together are quicker than I am: ask me again in {count} second.",
                    "All of you together are quicker than I am: ask me again in {count} seconds.",
                    math.ceil(wait),
                ),
                already_notified=told,
            )
        self._members.record_use(member_id)
        if guild_id is not None:
            self._servers.record_use(guild_id)

    def check_length(self, text: str) -> None:
        """Let a message be read.

        Raises:
            Refusal: it is too long.
        """
        if len(text) > self._max_message_chars:
            raise Refusal(
                phrase(
                    "Your message has {length:,} characters, and I read at most {most:,}: please "
                    "say it shorter, or in several messages.",
                    length=len(text),
                    most=self._max_message_chars,
                )
            )

    def truncate_message(self, text: str) -> str:
        """As much of a text as is read: a message can also get too long when it is edited."""
        return text[: self._max_message_chars]

"""Rate limits for members and servers. Knows ids and a clock only.

discord.py's CooldownMapping counts in fixed windows, so twice the limit fits around a window's
edge; and it does not remember who has been notified.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import TTLCache

from bot.chat.errors import NotAdmitted
from i18n.phrase import phrases

WINDOW_S = 60.0
MIN_COOLDOWN_S = 10.0
"""The shortest cooldown: a member who keeps writing is notified at most every ten seconds."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Usage:
    """The latest uses, the end of the cooldown, and where people were notified of it."""

    used_at: deque[float]
    cooldown_until: float = -math.inf
    notified: set[int] = field(default_factory=set)


class RateLimit:
    """A sliding window: at most `limit` uses per key in any minute; 0 is no limit.

    Once they are used up, a cooldown starts. It ends when the oldest use is a minute old, and lasts
    at least MIN_COOLDOWN_S. A key is forgotten after an idle minute.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._usage: TTLCache[int, Usage] = TTLCache(math.inf, WINDOW_S, timer=clock)

    def retry_after(self, key: int) -> float:
        """Seconds until the next use is allowed, 0 if it is now. May start a cooldown."""
        now = self._clock()
        usage = self._usage.get(key)
        if usage is None:
            return 0.0
        free_at = usage.used_at[0] + WINDOW_S
        if usage.cooldown_until <= now < free_at and len(usage.used_at) == self._limit:
            usage.cooldown_until = max(free_at, now + MIN_COOLDOWN_S)
            usage.notified = set()
            self._usage[key] = usage  # restarts its minute: the cooldown may outlast the uses
        return max(0.0, usage.cooldown_until - now)

    def record_use(self, key: int) -> None:
        if self._limit:
            usage = self._usage.get(key) or Usage(deque(maxlen=self._limit))
            usage.used_at.append(self._clock())
            self._usage[key] = usage

    def mark_notified(self, key: int, where: int) -> bool:
        """Record that `where` is notified of this cooldown; whether it already was."""
        notified = self._usage[key].notified
        already = where in notified
        notified.add(where)
        return already


class RateLimits:
    """A limit for each member, and one for each server, so that one server cannot starve others."""

    def __init__(
        self, *, member_per_minute: int, server_per_minute: int, clock: Clock = time.monotonic
    ) -> None:
        self._members = RateLimit(member_per_minute, clock)
        self._servers = RateLimit(server_per_minute, clock)

    def admit(self, member_id: int, guild_id: int | None, channel_id: int) -> None:
        """Count a request for a reply; `guild_id` is None in a direct message.

        Raises:
            NotAdmitted: the member or the server is over its limit; nothing is counted.
        """
        if wait := self._members.retry_after(member_id):
            raise NotAdmitted(
                phrases(
                    "You are quicker than I am: ask me again in {count} second.",
                    "You are quicker than I am: ask me again in {count} seconds.",
                    math.ceil(wait),
                ),
                already_notified=self._members.mark_notified(member_id, member_id),
            )
        if guild_id is not None and (wait := self._servers.retry_after(guild_id)):
            raise NotAdmitted(
                phrases(
                    "All of you together are quicker than I am: ask me again in {count} second.",
                    "All of you together are quicker than I am: ask me again in {count} seconds.",
                    math.ceil(wait),
                ),
                already_notified=self._servers.mark_notified(guild_id, channel_id),
            )
        self._members.record_use(member_id)
        if guild_id is not None:
            self._servers.record_use(guild_id)

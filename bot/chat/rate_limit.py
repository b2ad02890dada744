"""How fast people may ask, how much they may write at once, and how much the bot says.

Knows ids, lengths and a clock. Does not know Discord, nor what a reply is made of.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bot.discord_ui.errors import Refusal
from i18n.phrase import phrase, phrases

MINUTE_S = 60.0
COOLDOWN_S = 10.0
"""The shortest cooldown: who is too quick all the time is told so every ten seconds at most."""
LONGEST_REPLY = 4000
"""Characters of a reply: two or three messages. A token of GPT-2 may have dozens of them."""
MARK = " …"
"""Ends a reply that was cut."""

Clock = Callable[[], float]


class Held(Refusal):
    """There is no reply now. `told`: whoever reads that channel was told so a moment ago, so a
    message is met with silence. Who used a command or a button always reads it."""

    def __init__(self, sentence: str, *, told: bool = False) -> None:
        super().__init__(sentence)
        self.told = told


@dataclass(slots=True)
class Uses:
    """When something was used of late, until when it cools down, and where that was told."""

    times: deque[float]
    until: float = -math.inf
    told: set[int] = field(default_factory=set)


class Pace:
    """At most `most` uses in any minute, for each key on its own; 0: as many as one likes.

    When they are used up, a cooldown begins, until the oldest of them is a minute old, and of
    COOLDOWN_S seconds at least. What was not used for a minute is forgotten.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._keys: OrderedDict[int, Uses] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def wait(self, key: int) -> float:
        """Seconds until there may be another use; 0: now."""
        now = self._clock()
        self._forget(now)
        uses = self._keys.get(key)
        if uses is None:
            return 0.0
        over = uses.times[0] + MINUTE_S
        if uses.until <= now and len(uses.times) == self._most and over > now:
            uses.until = max(over, now + COOLDOWN_S)
            uses.told.clear()
        return max(0.0, uses.until - now)

    def take(self, key: int) -> None:
        """Use it once."""
        if self._most:
            uses = self._keys.setdefault(key, Uses(deque(maxlen=self._most)))
            uses.times.append(self._clock())
            self._keys.move_to_end(key)

    def was_told(self, key: int, where: int) -> bool:
        """Whether this cooldown was told there before; it counts as told now."""
        told = self._keys[key].told
        before = where in told
        told.add(where)
        return before

    def _forget(self, now: float) -> None:
        """Let go of what nobody used for a minute; the longest unused comes first."""
        while self._keys:
            uses = next(iter(self._keys.values()))
            if max(uses.times[-1] + MINUTE_S, uses.until) > now:
                return
            self._keys.popitem(last=False)


class Manners:
    """What is asked of people, so that there is something left for the others."""

    def __init__(
        self,
        *,
        member_per_minute: int,
        server_per_minute: int,
        longest_message: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._longest = longest_message
        self._members = Pace(member_per_minute, clock)
        self._servers = Pace(server_per_minute, clock)

    def admit(self, member_id: int, guild_id: int | None, channel_id: int) -> None:
        """Let somebody ask for a reply, and count it; in a direct message `guild_id` is None.

        Raises:
            Held: they, or all of the server together, are too quick. Nothing is counted then.
        """
        if wait := self._members.wait(member_id):
            told = self._members.was_told(member_id, member_id)
            raise Held(
                phrases(
                    "You are quicker than I am: ask me again in {count} second.",
                    "You are quicker than I am: ask me again in {count} seconds.",
                    math.ceil(wait),
                ),
                told=told,
            )
        if guild_id is not None and (wait := self._servers.wait(guild_id)):
            told = self._servers.was_told(guild_id, channel_id)
            raise Held(
                phrases(
                    "All of you together are quicker than I am: ask me again in {count} second.",
                    "All of you together are quicker than I am: ask me again in {count} seconds.",
                    math.ceil(wait),
                ),
                told=told,
            )
        self._members.take(member_id)
        if guild_id is not None:
            self._servers.take(guild_id)

    def check_length(self, text: str) -> None:
        """Let a message be read.

        Raises:
            Refusal: it is too long.
        """
        if len(text) > self._longest:
            raise Refusal(
                phrase(
                    "Your message has {length:,} characters, and I read at most {most:,}: please "
                    "say it shorter, or in several messages.",
                    length=len(text),
                    most=self._longest,
                )
            )

    def fitting(self, text: str) -> str:
        """As much of a text as is read: a message can also get too long when it is edited."""
        return text[: self._longest]


def shortened(reply: str) -> str:
    """A reply that is no more than a few messages."""
    if len(reply) <= LONGEST_REPLY:
        return reply
    return reply[: LONGEST_REPLY - len(MARK)].rstrip() + MARK

"""What was taught about a question, as far as a reply needs it. Values only.

The index of what was taught is `bot.learning.known_answers`; a conversation is given its `look_up`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Self

from bot.chat.filters import Blocked
from core.records import OPERATOR_AUTHOR_ID
from i18n.phrase import Phrase, phrase


class Misplaced(Blocked):
    """A reply says what was taught as the answer to another question; it begins with `start`."""

    def __init__(self, start: str) -> None:
        super().__init__(start)
        self.start = start


@dataclass(frozen=True, slots=True)
class TaughtAnswer:
    """The taught answer to a question, by `author_id`, which the model has not learned yet."""

    example_id: int
    author_id: int
    text: str

    @property
    def note(self) -> Phrase:
        """What people read under it. Discord shows the mention as a name; it pings nobody."""
        if self.author_id == OPERATOR_AUTHOR_ID:
            return phrase("Taught here, not learned yet.")
        return phrase("Taught by {who}, not learned yet.", who=f"<@{self.author_id}>")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about a question: the `answer` to give at once, if there is one, and a check of
    the model's reply, or of its beginning, which raises Misplaced (None if it learned nothing)."""

    answer: TaughtAnswer | None = None
    check: Callable[[str], None] | None = None

    def without_answer(self) -> Self:
        """The same for a reply that the model has to make."""
        return replace(self, answer=None)


NOTHING_KNOWN = Known()

LookUp = Callable[[int, str, str], Awaitable[Known]]
"""What is known in a scope about a question, while the model of that source answers."""


async def nothing_known(_scope: int, _source: str, _question: str) -> Known:
    """Leave every answer to the model."""
    return NOTHING_KNOWN

"""What is known about a question without a model, as far as a reply needs it. Values only.

The index of what was taught is `bot.learning.known_answers`, and `bot.chat.help` answers what is
asked about the bot itself; a conversation is given one `look_up`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from bot.chat.filters import Blocked
from core.records import OPERATOR_AUTHOR_ID
from data.questions.answers import is_near, may_become
from i18n.phrase import Phrase, phrase


class Misplaced(Blocked):
    """A reply says what was taught as the answer to another question, or is taught no more; it
    begins with `start`."""

    def __init__(self, start: str) -> None:
        super().__init__(start)
        self.start = start


class Astray(Blocked):
    """A reply is not the taught answer, which the model has learned."""


@dataclass(frozen=True, slots=True)
class TaughtAnswer:
    """The taught answer to a question, by `author_id`; `learned`: the model should know it."""

    example_id: int
    author_id: int
    text: str
    learned: bool = False

    def check_beginning(self, reply: str) -> None:
        """Raise Astray if a reply is not on the way to this answer."""
        if not may_become(reply, self.text):
            raise Astray

    def check_whole(self, reply: str) -> None:
        """Raise Astray if a reply is not nearly this answer."""
        if not is_near(reply, self.text):
            raise Astray

    @property
    def note(self) -> Phrase:
        """What people read under it. Discord shows the mention as a name; it pings nobody."""
        by_name = self.author_id != OPERATOR_AUTHOR_ID
        who = f"<@{self.author_id}>"
        if self.learned:
            return phrase("Taught by {who}.", who=who) if by_name else phrase("Taught here.")
        if by_name:
            return phrase("Taught by {who}, not learned yet.", who=who)
        return phrase("Taught here, not learned yet.")


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """What the bot always answers to a question about itself: nobody taught it."""

    text: str
    example_id: ClassVar[None] = None
    note: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about a question: the `answer` to give at once, if there is one; the one that
    the model is `expected` to give; and a check of its reply, or of the beginning, which raises
    Misplaced or Astray (None if it learned nothing)."""

    answer: TaughtAnswer | FixedAnswer | None = None
    expected: TaughtAnswer | None = None
    check: Callable[[str], None] | None = None

    def without_answer(self) -> Self:
        """The same for a reply that the model has to make, whatever it says."""
        return replace(
            self, answer=None, expected=None, check=None if self.expected else self.check
        )

    def with_expected(self) -> Self:
        """The same where the model did not give the expected answer: it is given at once."""
        return replace(self, answer=self.expected, expected=None)


NOTHING_KNOWN = Known()

LookUp = Callable[[int, str, str], Awaitable[Known]]
"""What is known in a scope about a question, while the model of that source answers."""


async def nothing_known(_scope: int, _source: str, _question: str) -> Known:
    """Leave every answer to the model."""
    return NOTHING_KNOWN

"""Teaching: a pair that somebody typed becomes an example of the data set, unless it has to wait.

Knows the data set. Does not know Discord.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from core.questions import question_key, split_wordings
from core.records import Example, NewExample, ReviewStatus
from data.dataset.cleaning import TEACH_SOURCE
from data.storage.tables.examples import Examples
from i18n.phrase import phrase

MAX_EXAMPLE_CHARS = 500
"""Of a question or an answer."""
MAX_WORDINGS = 5
"""Other ways to ask that are taught with one answer."""
Standing = Callable[[int, str], Awaitable[Example | None]]
"""The pair of a scope that a question asks for, in whatever words."""
BOTH_REQUIRED = phrase("Please give me both: what people say, and what I should answer.")


@dataclass(frozen=True, slots=True)
class Lesson:
    """A taught pair. `repeated`: the same member had taught it before. `superseded`: another answer
    to its question is newer, and is learned in its place."""

    example: Example
    repeated: bool
    superseded: bool


def other_wordings(also: str, question: str) -> list[str]:
    """The other ways to ask in a list that somebody typed, without repetitions."""
    by_key = {question_key(question): question}
    for wording in split_wordings(also):
        by_key.setdefault(question_key(wording), wording)
    return list(by_key.values())[1:]


async def none_standing(_scope: int, _question: str) -> Example | None:
    """Compare with what was taught by the letters only."""
    return None


async def teach(
    examples: Examples,
    scope: int,
    author_id: int,
    question: str,
    answer: str,
    *,
    by_manager: bool,
    may_replace: bool,
    reviewed: bool = False,
    standing: Standing = none_standing,
) -> Lesson:
    """Store a pair that a member typed; see `NewExample` for `by_manager` and `may_replace`.
    Where lessons are `reviewed`, whatever is new waits unless a manager teaches it.

    Another answer than others gave to the question waits for a review, also if it is asked in
    other words, as far as `standing` knows.

    A pair that is stored already becomes the newest answer if a manager teaches it, or the member
    who alone had taught it, unless it would have to wait: then the stored one stays as it is.
    """
    repeated = await examples.is_taught_by(scope, author_id, question, answer)
    waits = reviewed and not by_manager
    known = None if by_manager or may_replace or waits else await standing(scope, question)
    is_rival = known is not None and known.author_id != author_id and known.bot != answer
    new = NewExample(
        scope,
        question,
        answer,
        author_id,
        TEACH_SOURCE,
        status=ReviewStatus.WAITING if is_rival or waits else ReviewStatus.APPROVED,
        by_manager=by_manager,
        may_replace=may_replace,
    )
    example = await examples.add(new)
    superseded = await examples.has_newer_answer(example)
    if superseded and (repeated or by_manager) and (newest := await examples.make_newest(new)):
        return Lesson(newest, repeated=False, superseded=False)
    return Lesson(example, repeated, superseded)

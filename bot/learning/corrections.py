"""Better answers: from a reply to an example of the data set.

Knows the store and whose words may stand in an example. Does not know Discord.
"""

from __future__ import annotations

from dataclasses import dataclass

from bot.discord_ui.errors import Refusal
from bot.discord_ui.reply import head
from core.records import Example, Review
from data.storage.store import Store
from i18n.phrase import phrase

LONGEST = 500
"""Characters of a taught question or answer."""
BOTH = phrase("Please give me both: what people say, and what I should answer.")
SOURCE = "better answer"
WEIGHT = 2
"""How often a better answer is learned: a plain example is learned once."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A better answer that `teacher` is about to give to a reply.

    `words` are those that the reply answers, where the teacher may be shown them as a question to
    keep: `asked_by` wrote them. Otherwise they are "".
    """

    scope: int
    reply_id: int
    teacher: int
    words: str = ""
    asked_by: int | None = None


async def begin(store: Store, scope: int, reply_id: int, teacher: int) -> Lesson:
    """A lesson with the question that was asked, if it is the teacher's own or its member agreed
    that their words are learned."""
    nothing = Lesson(scope, reply_id, teacher)
    record = await store.reply(reply_id)
    if record is None or record.scope != scope:
        return nothing
    if record.asked_by != teacher and await store.consent(scope, record.asked_by) is None:
        return nothing
    asked = await store.messages([record.asked_id])
    words = head(asked[0].message.content.strip(), LONGEST).strip() if asked else ""
    return Lesson(scope, reply_id, teacher, words, record.asked_by) if words else nothing


async def keep(
    store: Store, lesson: Lesson, question: str, answer: str, *, approved: bool
) -> Example:
    """Store what the teacher wrote.

    Raises:
        Refusal: one of the two is blank.
        NoConsent: they kept words of a member who does not agree any more.
    """
    question, answer = question.strip(), answer.strip()
    if not question or not answer:
        raise Refusal(BOTH)
    return await store.add_example(
        lesson.scope,
        question,
        answer,
        lesson.teacher,
        SOURCE,
        asked_by=lesson.asked_by if question == lesson.words else None,
        reply_id=lesson.reply_id,
        corrects=True,
        weight=WEIGHT,
        status=Review.APPROVED if approved else Review.WAITING,
    )

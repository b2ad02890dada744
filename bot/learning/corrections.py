"""Better answers: from a reply to an example of the data set.

Knows the store and whose words may stand in an example. Does not know Discord.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import Refusal
from core.records import Example, NewExample, ReviewStatus
from core.utf16 import truncate_utf16
from data.storage.storage import Storage
from i18n.phrase import phrase

MAX_EXAMPLE_CHARS = 500
"""Characters of a taught question or answer."""
BOTH_REQUIRED = phrase("Please give me both: what people say, and what I should answer.")
CORRECTION_SOURCE = "better answer"
CORRECTION_WEIGHT = 2
"""How often a better answer is learned: a plain example is learned once."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A better answer that `author_id` is about to give to a reply.

    `question` are those that the reply answers, where the teacher may be shown them as a question
    to keep: `asked_by` wrote them. Otherwise they are "".
    """

    scope: int
    reply_id: int
    author_id: int
    question: str = ""
    asked_by: int | None = None


async def start_correction(storage: Storage, scope: int, reply_id: int, teacher: int) -> Correction:
    """A lesson with the question that was asked, if it is the teacher's own or its member agreed
    that their words are learned."""
    nothing = Correction(scope, reply_id, teacher)
    record = await storage.replies.get(reply_id)
    if record is None or record.scope != scope:
        return nothing
    if record.asked_by != teacher and await storage.consents.active(scope, record.asked_by) is None:
        return nothing
    asked = await storage.messages.get_many([record.asked_id])
    words = (
        truncate_utf16(asked[0].message.content.strip(), MAX_EXAMPLE_CHARS).strip() if asked else ""
    )
    return Correction(scope, reply_id, teacher, words, record.asked_by) if words else nothing


async def save_correction(
    storage: Storage, lesson: Correction, question: str, answer: str, *, approved: bool
) -> Example:
    """Store what the teacher wrote.

    Raises:
        Refusal: one of the two is blank.
        NoConsent: they kept words of a member who does not agree any more.
    """
    question, answer = question.strip(), answer.strip()
    if not question or not answer:
        raise Refusal(BOTH_REQUIRED)
    return await storage.examples.add(
        NewExample(
            lesson.scope,
            question,
            answer,
            lesson.author_id,
            CORRECTION_SOURCE,
            asked_by=lesson.asked_by if question == lesson.question else None,
            reply_id=lesson.reply_id,
            corrects=True,
            weight=CORRECTION_WEIGHT,
            status=ReviewStatus.APPROVED if approved else ReviewStatus.WAITING,
        )
    )

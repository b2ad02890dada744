"""Corrections: a better answer to a reply becomes an example of the data set.

Knows the store, and whose words an example may hold. Does not know Discord.
"""

from __future__ import annotations

from dataclasses import dataclass

from bot.learning.teaching import BOTH_REQUIRED, MAX_EXAMPLE_CHARS
from core.errors import Refusal
from core.records import Example, NewExample, ReviewStatus
from core.texts import truncate_utf16
from data.storage.storage import Storage

CORRECTION_SOURCE = "better answer"
CORRECTION_WEIGHT = 2
"""A taught example has weight 1."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A better answer that `author_id` is about to give to a reply.

    `question` is the message that the reply answers, by `asked_by`; "" if the author may not reuse
    it.
    """

    scope: int
    reply_id: int
    author_id: int
    question: str = ""
    asked_by: int | None = None


async def start_correction(storage: Storage, scope: int, reply_id: int, author: int) -> Correction:
    """A correction with the original question, if the author asked it or the member who did has
    consented to learning."""
    blank = Correction(scope, reply_id, author)
    record = await storage.replies.get(reply_id)
    if record is None or record.scope != scope:
        return blank
    if record.asked_by != author and await storage.consents.active(scope, record.asked_by) is None:
        return blank
    asked = await storage.messages.get_many([record.asked_id])
    text = asked[0].message.content.strip() if asked else ""
    question = truncate_utf16(text, MAX_EXAMPLE_CHARS).strip()
    return Correction(scope, reply_id, author, question, record.asked_by) if question else blank


async def save_correction(
    storage: Storage, correction: Correction, question: str, answer: str, *, approved: bool
) -> Example:
    """Store a submitted correction; one that a manager submits is the newest answer.

    Raises:
        Refusal: the question or the answer is blank.
        NoConsent: the question is a member's, who has withdrawn their consent.
    """
    question, answer = question.strip(), answer.strip()
    if not question or not answer:
        raise Refusal(BOTH_REQUIRED)
    new = NewExample(
        correction.scope,
        question,
        answer,
        correction.author_id,
        CORRECTION_SOURCE,
        # A question in the author's own words needs nobody else's consent.
        asked_by=correction.asked_by if question == correction.question else None,
        reply_id=correction.reply_id,
        corrects=True,
        weight=CORRECTION_WEIGHT,
        status=ReviewStatus.APPROVED if approved else ReviewStatus.WAITING,
        by_manager=approved,
    )
    example = await storage.examples.add(new)
    if approved and await storage.examples.has_newer_answer(example):
        return await storage.examples.make_newest(new) or example
    return example

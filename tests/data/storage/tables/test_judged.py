"""Which judged replies may be learned from: those whose words anything else may be learned of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.records import Example, NewExample, ReviewStatus
from data.storage.erasure import erase_member
from data.storage.storage import Storage
from data.storage.tables.examples import Examples
from tests.data.storage.records import ADA, BEN, BOT, CLEO, GUILD, OTHER, made, said

REPLY, ASKED = 100, 99


@pytest.fixture
async def pair(storage: Storage) -> Example:
    """Ben asked, agreed to it, the pair was collected and approved, and Ada likes the reply."""
    await answered(storage)
    await storage.consents.opt_in(GUILD, BEN, 1)
    pair = await storage.examples.add(
        NewExample(
            GUILD, "hello", "hi", BEN, "chat", asked_by=BEN, reply_id=REPLY, consent_version=1
        )
    )
    await storage.replies.rate(GUILD, REPLY, ADA, 1)
    return pair


async def answered(storage: Storage, at: datetime | None = None) -> None:
    moment = at or datetime.now(UTC) - timedelta(minutes=1)
    await storage.messages.add(said(ASKED, "hello", BEN))
    await storage.replies.add(made(REPLY, ASKED, BEN, at=moment))
    await storage.messages.add(said(REPLY, "hi", BOT), reply_to_id=ASKED)


async def correct(storage: Storage, **more: object) -> Example:
    return await storage.examples.add(
        NewExample(
            GUILD, "hello?", "Good day!", CLEO, "better answer",
            reply_id=REPLY, corrects=True, **more,  # type: ignore[arg-type]
        )
    )  # fmt: skip


async def judged(storage: Storage) -> list[tuple[str, str, dict[int, int]]]:
    found = await storage.examples.judged(GUILD)
    return [(one.example.user, one.reply, dict(one.votes)) for one in found]


async def test_votes_on_an_approved_pair_with_consent(storage: Storage, pair: Example) -> None:
    await storage.replies.rate(GUILD, REPLY, CLEO, -1)
    assert await judged(storage) == [("hello", "hi", {ADA: 1, CLEO: -1})]
    [one] = await storage.examples.judged(GUILD)
    assert (one.example.id, one.example.consent_version) == (pair.id, 1)
    assert (one.asked_by, one.judges) == (BEN, (ADA, CLEO))
    assert await storage.examples.judged(OTHER) == []


async def test_a_disliked_pair_is_no_example_but_a_judged_reply(
    storage: Storage, pair: Example
) -> None:
    await storage.replies.rate(GUILD, REPLY, ADA, -1)
    assert await storage.examples.trainable(GUILD) == []
    assert await judged(storage) == [("hello", "hi", {ADA: -1})]


async def test_no_words_without_consent_review_or_the_operator(
    storage: Storage, pair: Example
) -> None:
    for status in (ReviewStatus.WAITING, ReviewStatus.REJECTED):
        await storage.examples.set_review(GUILD, pair.id, status)
        assert await judged(storage) == []
    await storage.examples.set_review(GUILD, pair.id, ReviewStatus.APPROVED)
    off = Examples(storage.examples._db, include_collected=False)
    assert await off.judged(GUILD) == []
    await storage.consents.opt_out(GUILD, BEN)
    assert await judged(storage) == []


async def test_a_vote_that_was_taken_back_or_whose_voter_is_forgotten(
    storage: Storage, pair: Example
) -> None:
    await storage.erasures.begin(ADA)
    assert await judged(storage) == []
    await storage.replies.rate(GUILD, REPLY, CLEO, 1)
    await erase_member(storage, ADA)
    assert await judged(storage) == [("hello", "hi", {CLEO: 1})]
    await storage.replies.rate(GUILD, REPLY, CLEO, 0)
    assert await judged(storage) == []


@pytest.mark.parametrize("gone", [REPLY, ASKED])
async def test_a_deleted_message_takes_its_votes_along(
    storage: Storage, pair: Example, gone: int
) -> None:
    await storage.messages.delete([gone])
    assert await judged(storage) == []


async def test_a_better_answer_needs_no_consent_but_the_reply(storage: Storage) -> None:
    await answered(storage)
    await correct(storage)
    await storage.replies.rate(GUILD, REPLY, ADA, 1)  # of the reply, not of the correction
    assert await judged(storage) == [("hello?", "hi", {})]
    [one] = await storage.examples.judged(GUILD)
    assert one.judges == (CLEO,)
    await storage.messages.delete([REPLY])
    assert await judged(storage) == []


async def test_a_reply_that_was_generated_anew_is_not_what_was_corrected(storage: Storage) -> None:
    await answered(storage)
    await correct(storage)
    await storage.replies.add(made(REPLY, ASKED, BEN, at=datetime.now(UTC) + timedelta(minutes=1)))
    assert await judged(storage) == []


async def test_a_better_answer_with_somebody_elses_words_needs_their_consent(
    storage: Storage,
) -> None:
    await answered(storage)
    await storage.consents.opt_in(GUILD, BEN, 1)
    await correct(storage, asked_by=BEN)
    assert len(await judged(storage)) == 1
    await storage.consents.opt_out(GUILD, BEN)
    assert await judged(storage) == []

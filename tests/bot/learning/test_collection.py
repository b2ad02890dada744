"""Collecting: nothing of a member is kept to learn from unless all agreed to it."""

from __future__ import annotations

import asyncio

import pytest

from bot.learning.collection import collect
from bot.learning.consent import CONSENT_VERSION
from core.records import Example, NewExample, ReplyRecord, ReviewStatus
from data.dataset.cleaning import CHAT_SOURCE
from data.storage.storage import Storage
from tests.data.storage.records import ADA, BEN, BOT, CHANNEL, GUILD, OTHER, made, said

ASKED, REPLY = "where is the tea?", "in the kitchen"


async def answered(storage: Storage, scope: int = GUILD) -> ReplyRecord:
    """Ada asked, the bot answered, and both are in the history."""
    record = made(100, 99, scope=scope)
    await storage.messages.add(said(99, ASKED, scope=scope))
    await storage.replies.add(record)
    await storage.messages.add(said(100, REPLY, BOT, scope=scope), reply_to_id=99)
    return record


@pytest.fixture(autouse=True)
async def channel_enabled(storage: Storage) -> None:
    await storage.channels.set_enabled(CHANNEL, GUILD, True)


async def kept(storage: Storage, record: ReplyRecord) -> list[Example]:
    """What the scope has after collecting."""
    await collect(storage, record, ASKED, REPLY)
    return await storage.examples.all(GUILD)


async def test_with_consent_a_pair_waits_for_review(storage: Storage) -> None:
    record = await answered(storage)
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION)
    [example] = await kept(storage, record)
    assert [example] == await storage.examples.all(GUILD, ReviewStatus.WAITING)
    assert (example.user, example.bot, example.source) == (ASKED, REPLY, CHAT_SOURCE)
    assert (example.author_id, example.asked_by, example.reply_id) == (ADA, ADA, 100)
    assert example.consent_version == CONSENT_VERSION
    assert await storage.examples.trainable(GUILD) == []


async def test_the_channel_must_be_enabled(storage: Storage) -> None:
    record = await answered(storage)
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION)
    await storage.channels.set_enabled(CHANNEL, GUILD, False)
    assert await kept(storage, record) == []


async def test_no_words_are_kept_without_the_askers_consent_here(storage: Storage) -> None:
    record = await answered(storage)
    await storage.consents.opt_in(OTHER, ADA, CONSENT_VERSION)
    await storage.consents.opt_in(GUILD, BEN, CONSENT_VERSION)
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION - 1)
    assert await kept(storage, record) == []
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION)
    await storage.consents.opt_out(GUILD, ADA)
    assert await kept(storage, record) == []


async def test_a_withdrawal_in_the_same_moment_wins(storage: Storage) -> None:
    record = await answered(storage)
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION)
    await asyncio.gather(kept(storage, record), withdraw(storage))
    assert await storage.examples.all(GUILD) == []


async def withdraw(storage: Storage) -> None:
    await storage.consents.opt_out(GUILD, ADA)
    await storage.examples.remove_pending_collected(ADA, GUILD)


@pytest.mark.parametrize("gone", [99, 100])
async def test_what_was_deleted_meanwhile_does_not_come_back(storage: Storage, gone: int) -> None:
    record = await answered(storage)
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION)
    await storage.messages.delete([gone])
    assert await kept(storage, record) == []


async def test_what_was_edited_meanwhile_is_not_kept(storage: Storage) -> None:
    record = await answered(storage)
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION)
    await storage.messages.edit(99, "never mind")
    assert await kept(storage, record) == []


async def test_what_was_taught_on_purpose_stays_as_it_is(storage: Storage) -> None:
    taught = await storage.examples.add(NewExample(GUILD, ASKED, REPLY, BEN, "teach"))
    record = await answered(storage)
    await storage.consents.opt_in(GUILD, ADA, CONSENT_VERSION)
    await kept(storage, record)
    await storage.messages.delete([99])
    assert await kept(storage, record) == [taught]

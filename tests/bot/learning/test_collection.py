"""Collecting: nothing of a member is kept to learn from unless all agreed to it."""

from __future__ import annotations

import asyncio

import pytest

from bot.learning.collection import CHAT_SOURCE, collect
from bot.learning.consent import CONSENT_VERSION
from core.records import Example, ReplyRecord, ReviewStatus
from data.storage.store import Store
from tests.data.storage.records import ADA, BEN, BOT, GUILD, OTHER, made, said

ASKED, REPLY = "where is the tea?", "in the kitchen"


async def answered(store: Store, scope: int = GUILD) -> ReplyRecord:
    """Ada asked, the bot answered, and both are in the history."""
    record = made(100, 99, scope=scope)
    await store.add_message(said(99, ASKED, scope=scope))
    await store.add_reply(record)
    await store.add_message(said(100, REPLY, BOT, scope=scope), reply_to_id=99)
    return record


async def kept(
    store: Store, record: ReplyRecord, *, on: bool = True, enabled: bool = True
) -> Example | None:
    return await collect(store, record, ASKED, REPLY, learn_from_chat=on, enabled=enabled)


async def test_with_consent_a_pair_waits_for_review(store: Store) -> None:
    record = await answered(store)
    await store.opt_in(GUILD, ADA, CONSENT_VERSION)
    example = await kept(store, record)
    assert example is not None
    assert [example] == await store.examples(GUILD, ReviewStatus.WAITING)
    assert (example.user, example.bot, example.source) == (ASKED, REPLY, CHAT_SOURCE)
    assert (example.author_id, example.asked_by, example.reply_id) == (ADA, ADA, 100)
    assert example.consent_version == CONSENT_VERSION
    assert await store.trainable_examples(GUILD) == []


@pytest.mark.parametrize(("on", "enabled"), [(False, True), (True, False), (False, False)])
async def test_both_switches_must_be_on(store: Store, on: bool, enabled: bool) -> None:
    record = await answered(store)
    await store.opt_in(GUILD, ADA, CONSENT_VERSION)
    assert await kept(store, record, on=on, enabled=enabled) is None
    assert await store.examples(GUILD) == []


async def test_no_words_are_kept_without_the_askers_consent_here(store: Store) -> None:
    record = await answered(store)
    await store.opt_in(OTHER, ADA, CONSENT_VERSION)
    await store.opt_in(GUILD, BEN, CONSENT_VERSION)
    await store.opt_in(GUILD, ADA, CONSENT_VERSION - 1)
    assert await kept(store, record) is None
    await store.opt_in(GUILD, ADA, CONSENT_VERSION)
    await store.opt_out(GUILD, ADA)
    assert await kept(store, record) is None
    assert await store.examples(GUILD) == []


async def test_a_withdrawal_in_the_same_moment_wins(store: Store) -> None:
    record = await answered(store)
    await store.opt_in(GUILD, ADA, CONSENT_VERSION)
    await asyncio.gather(kept(store, record), withdraw(store))
    assert await store.examples(GUILD) == []


async def withdraw(store: Store) -> None:
    await store.opt_out(GUILD, ADA)
    await store.remove_pending_collected(ADA, GUILD)


@pytest.mark.parametrize("gone", [99, 100])
async def test_what_was_deleted_meanwhile_does_not_come_back(store: Store, gone: int) -> None:
    record = await answered(store)
    await store.opt_in(GUILD, ADA, CONSENT_VERSION)
    await store.delete_messages([gone])
    assert await kept(store, record) is None
    assert await store.examples(GUILD) == []


async def test_what_was_edited_meanwhile_is_not_kept(store: Store) -> None:
    record = await answered(store)
    await store.opt_in(GUILD, ADA, CONSENT_VERSION)
    await store.edit_message(99, "never mind")
    assert await kept(store, record) is None
    assert await store.examples(GUILD) == []


async def test_what_was_taught_on_purpose_stays_as_it_is(store: Store) -> None:
    taught = await store.add_example(GUILD, ASKED, REPLY, BEN, "teach")
    record = await answered(store)
    await store.opt_in(GUILD, ADA, CONSENT_VERSION)
    await kept(store, record)
    await store.delete_messages([99])
    await kept(store, record)
    assert await store.examples(GUILD) == [taught]

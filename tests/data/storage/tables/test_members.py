"""Consents, ratings, records of replies, jobs' sources; what is known of a member, and its end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import NoConsent, StoreError
from core.records import ErasureResult, JobState, RatingSummary, Role, TrainingJob
from data.storage.erasure import erase_member, purge_older_than, resume_erasures
from data.storage.store import Store, open_store
from tests.data.storage.records import ADA, BEN, BOT, CHANNEL, CLEO, GUILD, NOON, OTHER, made, said


async def job(store: Store, sources: dict[int, int | None]) -> TrainingJob:
    made = await store.add_job(
        scope=GUILD, requested_by=ADA, channel_id=CHANNEL, base_model="gpt2", directory="jobs/1"
    )
    await store.add_job_sources(made.id, sources)
    return made


class TestLedger:
    async def test_a_consent_stands_until_it_is_withdrawn(self, store: Store) -> None:
        assert await store.active_consent(GUILD, ADA) is None
        assert not await store.opt_out(GUILD, ADA)
        await store.opt_in(GUILD, ADA, 1)
        await store.opt_in(GUILD, ADA, 1)
        await store.opt_in(GUILD, ADA, 2)
        standing = await store.active_consent(GUILD, ADA)
        assert standing is not None
        assert (standing.version, standing.withdrawn_at) == (2, None)
        assert (
            await store.active_consent(OTHER, ADA) is await store.active_consent(GUILD, BEN) is None
        )
        assert await store.opt_out(GUILD, ADA)
        assert await store.active_consent(GUILD, ADA) is None

    async def test_the_ledger_keeps_every_line(self, store: Store) -> None:
        await store.opt_in(GUILD, ADA, 1)
        await store.opt_out(GUILD, ADA)
        await store.opt_in(GUILD, ADA, 1)
        await store.opt_in(OTHER, ADA, 1)
        lines = await store.consent_history(ADA)
        assert [(one.scope, one.withdrawn_at is None) for one in lines] == [
            (GUILD, False),
            (GUILD, True),
            (OTHER, True),
        ]
        assert await store.consent_history(BEN) == []


class TestReplies:
    async def test_a_record_comes_back_and_leads_to_what_was_read(self, store: Store) -> None:
        for n in (97, 98, 99):
            await store.add_message(said(n, f"message {n}"))
        record = replace(made(100, 99), seen=(97, 99, 98), seed=7, cut=1, first_s=0.1)
        assert await store.add_reply(record)
        assert await store.reply_record(100) == record
        await store.delete_messages([97])
        assert await store.messages(record.seen) == [said(99, "message 99"), said(98, "message 98")]
        assert await store.reply_record(404) is None
        assert await store.messages([]) == []

    async def test_a_reply_made_anew_has_a_new_record(self, store: Store) -> None:
        await store.add_message(said(99, "hello"))
        await store.add_reply(made(100, 99))
        again = replace(made(100, 99), model="tiny")
        await store.add_reply(again)
        assert await store.reply_record(100) == again

    async def test_nothing_comes_back_of_what_was_deleted_meanwhile(self, store: Store) -> None:
        await store.add_message(said(99, "hello"))
        await store.delete_messages([99])
        assert not await store.add_reply(made(100, 99))
        await store.add_message(said(100, "you said hello", BOT), reply_to_id=99)
        assert await store.reply_record(100) is None
        assert await store.context_messages(CHANNEL, 5) == []

    async def test_ratings_are_changed_and_taken_back(self, store: Store) -> None:
        assert await store.rating_summary(100, ADA) == RatingSummary()
        await store.rate(GUILD, 100, ADA, 1)
        await store.rate(GUILD, 100, BEN, 1)
        await store.rate(GUILD, 100, ADA, -1)
        await store.rate(GUILD, 101, ADA, 1)
        assert await store.rating_summary(100, ADA) == RatingSummary(up=1, down=1, mine=-1)
        assert await store.rating_summary(100) == RatingSummary(up=1, down=1, mine=0)
        await store.rate(GUILD, 100, ADA, 0)
        assert await store.rating_summary(100, ADA) == RatingSummary(up=1)
        with pytest.raises(StoreError):
            await store.rate(GUILD, 100, ADA, 2)

    async def test_a_reply_made_anew_is_rated_anew(self, store: Store) -> None:
        for reply, user in ((100, ADA), (100, BEN), (101, ADA)):
            await store.rate(GUILD, reply, user, 1)
        assert await store.clear_ratings(100) == 2
        assert await store.rating_summary(100) == RatingSummary()
        assert await store.rating_summary(101) == RatingSummary(up=1)


async def test_jobs_know_whose_words_they_learned(store: Store) -> None:
    first = await job(store, {ADA: 1, BEN: None})
    second = await job(store, {ADA: 2})
    assert await store.job_sources(first.id) == {ADA: 1, BEN: None}
    assert await store.jobs_with_member(ADA) == [first, second]
    assert await store.jobs_trained_on_member(ADA) == []
    promoted = await store.set_job_state(second.id, JobState.PROMOTED, checkpoint="gpt2-2")
    assert await store.jobs_trained_on_member(ADA) == [promoted]
    await store.add_job_sources(first.id, {BEN: 3})
    assert await store.job_sources(first.id) == {ADA: 1, BEN: 3}
    assert await store.remove_sources_of_member(ADA) == 2
    assert await store.jobs_with_member(ADA) == []
    assert await store.jobs_with_member(BEN) == [first]


async def live(store: Store, word: str, others: str = "something") -> None:
    """Ada leaves traces of every kind in two servers; Ben is there too."""
    for scope in (GUILD, OTHER):
        for n in range(scope * 1000, scope * 1000 + 60, 3):
            await store.add_message(said(n, f"{word} {n} " + "x" * n, scope=scope))
            await store.add_reply(made(n + 1, n, scope=scope))
            await store.add_message(
                said(n + 1, f"you said {word}", BOT, scope=scope), reply_to_id=n
            )
            await store.add_message(said(n + 2, f"{others} {n}", BEN, scope=scope))
            await store.rate(scope, n + 1, ADA, 1)
        await store.rate(scope, scope * 1000 + 1, BEN, 1)
        await store.opt_in(scope, ADA, 1)
        await store.add_example(scope, word, "hi", BOT, "liked", asked_by=ADA, consent_version=1)
        await store.add_example(scope, "hi?", word, ADA, "teach")
        await store.add_example(scope, "who?", others, BEN, "teach")
    await job(store, {ADA: 1})


class TestWhatIsKnown:
    async def test_it_is_counted_here_or_everywhere(self, store: Store) -> None:
        await live(store, "marmalade")
        here = await store.member_summary(ADA, GUILD)
        assert (here.messages, here.replies, here.examples) == (20, 20, 2)
        assert (here.ratings, here.jobs, here.consent) == (
            20,
            1,
            await store.active_consent(GUILD, ADA),
        )
        everywhere = await store.member_summary(ADA)
        assert (everywhere.messages, everywhere.examples, everywhere.consent) == (40, 4, None)
        assert (await store.member_summary(CLEO, GUILD)).messages == 0

    async def test_the_export_has_all_and_is_json(self, store: Store) -> None:
        await live(store, "marmalade")
        await store.record_action(GUILD, ADA, "model use", "tiny-1")
        await store.record_action(GUILD, BEN, "pause")
        told = json.loads(json.dumps(await store.export_member(ADA)))
        assert {name: len(told[name]) for name in told if name != "user_id"} == {
            "messages": 40,
            "replies": 40,
            "examples": 4,
            "ratings": 40,
            "consents": 2,
            "jobs": 1,
            "audit": 1,
            "forgetting": 0,
        }
        assert told["user_id"] == str(ADA)
        assert told["messages"][0]["discord_id"] == "1000"
        assert told["replies"][0]["content"] == "you said marmalade"
        assert told["replies"][0]["seen"] == ["1000"]
        assert "something" not in json.dumps(told)

    async def test_the_words_of_others_are_in_nobodys_export(self, store: Store) -> None:
        await store.opt_in(GUILD, BEN, 1)
        await store.add_example(
            GUILD, "of Ben", "of Ada", ADA, "better answer", asked_by=BEN, corrects=True
        )
        [ada] = (await store.export_member(ADA))["examples"]
        [ben] = (await store.export_member(BEN))["examples"]
        assert (ada["user"], ada["bot"]) == (None, "of Ada")
        assert (ben["user"], ben["bot"]) == ("of Ben", None)


def on_disk(path: Path, word: str) -> int:
    """How often the word is in the bytes of the database and the files beside it."""
    files = [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")]
    return sum(one.read_bytes().count(word.encode()) for one in files if one.exists())


class TestForgetting:
    async def test_all_traces_go_and_those_of_others_stay(self, store: Store, path: Path) -> None:
        await live(store, "marmalade")
        assert on_disk(path, "marmalade") > 80
        gone = await erase_member(store, ADA, batch=7)
        assert gone == ErasureResult(messages=40, replies=40, examples=4, ratings=40, consents=2)
        assert on_disk(path, "marmalade") == 0
        assert on_disk(path, "something") >= 42
        left = await store.member_summary(ADA)
        assert (left.messages, left.replies, left.examples, left.ratings) == (0, 0, 0, 0)
        assert len(await store.jobs_with_member(ADA)) == 1
        assert all(one.withdrawn_at for one in await store.consent_history(ADA))
        assert await store.unfinished_erasures() == []
        assert (await store.member_summary(BEN)).messages == 40
        assert (await store.rating_summary(1001, BEN)).mine == 1
        assert {one.author_id for one in await store.context_messages(CHANNEL, 200)} == {BEN}
        assert not await erase_member(store, ADA)

    async def test_one_that_was_killed_is_finished_at_the_next_start(self, path: Path) -> None:
        async with open_store(path) as store:
            await live(store, "marmalade")
            await store.begin_erasure(ADA)
            await store.begin_erasure(BEN)
            await store.erase_member_batch(ADA, 5)
        async with open_store(path) as store:
            assert await store.unfinished_erasures() == [ADA, BEN]
            await resume_erasures(store)
            assert await store.unfinished_erasures() == []
            assert await store.context_messages(CHANNEL, 5) == []
        assert on_disk(path, "marmalade") == on_disk(path, "something") == 0

    async def test_chat_goes_on_meanwhile_and_what_answers_them_does_not_stay(
        self, store: Store, path: Path
    ) -> None:
        await live(store, "marmalade")
        over = asyncio.Event()
        written: list[int] = []

        async def chat(n: int) -> None:
            while not over.is_set():
                written.append(n)
                await store.add_message(said(n, f"marmalade {n}"))
                await store.add_reply(made(n + 1, n))
                await store.add_message(said(n + 1, f"marmalade {n}", BOT), reply_to_id=n)
                await store.add_message(said(n + 2, "I am Ben", BEN))
                n += 3
                if n > 5300:
                    return

        chatting = asyncio.create_task(chat(5000))
        await erase_member(store, ADA, batch=3)
        over.set()
        await chatting
        said_before = [
            one for one in await store.context_messages(CHANNEL, 500) if one.author_id != BEN
        ]
        for one in said_before:  # what was said after the forgetting had ended
            assert one.discord_id >= 5000
        replies = [one for one in said_before if one.message.role is Role.ASSISTANT]
        for one in replies:
            assert await store.reply_record(one.discord_id) is not None
        await erase_member(store, ADA)
        assert on_disk(path, "marmalade") == 0
        assert (await store.member_summary(BEN)).messages >= 40 + len(written) - 1

    async def test_it_is_not_over_while_another_program_keeps_the_log(
        self, store: Store, path: Path
    ) -> None:
        await live(store, "marmalade")
        await store._db.execute("PRAGMA busy_timeout = 1")
        async with open_store(path) as reader:
            await reader._db.execute("BEGIN")
            await reader.context_messages(CHANNEL, 1)
            await erase_member(store, ADA)
            assert await store.unfinished_erasures() == [ADA]
            await reader._db.execute("COMMIT")
        await resume_erasures(store)
        assert await store.unfinished_erasures() == []
        assert on_disk(path, "marmalade") == 0

    async def test_it_ends_when_what_is_outside_is_gone_too(self, store: Store) -> None:
        await live(store, "marmalade")
        called: list[int] = []

        async def outside(user_id: int) -> None:
            assert (await store.member_summary(user_id)).messages == 0
            called.append(user_id)
            if len(called) == 1:
                raise StoreError("The file is open elsewhere.")

        with pytest.raises(StoreError):
            await erase_member(store, ADA, erase_external=outside)
        assert await store.unfinished_erasures() == [ADA]
        await resume_erasures(store, erase_external=outside)
        assert await store.unfinished_erasures() == []
        assert called == [ADA, ADA]

    async def test_nothing_is_collected_from_who_was_forgotten(self, store: Store) -> None:
        await store.opt_in(GUILD, ADA, 1)
        await erase_member(store, ADA)
        with pytest.raises(NoConsent):
            await store.add_example(GUILD, "a", "b", BOT, "x", asked_by=ADA, consent_version=1)


class TestRetention:
    async def test_what_is_older_goes_in_batches(self, store: Store) -> None:
        day = timedelta(days=1)
        for n in range(20):
            await store.add_message(said(100 + n, f"{n}", at=NOON - n * day))
            await store.add_reply(made(200 + n, 100 + n, at=NOON - n * day))
        await store.add_example(GUILD, "a", "b", ADA, "teach")
        assert await store.purge_batch(NOON - 9.5 * day, 3) == 6
        assert await purge_older_than(store, NOON - 9.5 * day, batch=3) == 14
        assert await purge_older_than(store, NOON - 9.5 * day) == 0
        kept = await store.context_messages(CHANNEL, 50)
        assert [one.discord_id for one in kept] == list(range(100, 110))
        assert await store.reply_record(209) is not None
        assert await store.reply_record(210) is None
        assert await store.count_examples(GUILD) == 1

    async def test_a_fraction_of_a_second_counts(self, store: Store) -> None:
        await store.add_message(said(1, "on the second", at=NOON))
        await store.add_message(said(2, "after it", at=NOON + timedelta(microseconds=1)))
        assert await store.purge_batch(NOON + timedelta(microseconds=1), 10) == 1
        assert [one.discord_id for one in await store.context_messages(CHANNEL, 5)] == [2]


class TestLookUpsDoNotScan:
    """With an index, time does not grow with size."""

    async def test_the_plans(self, store: Store, path: Path) -> None:
        statements: list[str] = []
        await store._db.set_trace_callback(statements.append)
        await store.member_summary(ADA, GUILD)
        await store.erase_member_batch(ADA, 5)
        await store.purge_batch(NOON, 5)
        await store.active_consent(GUILD, ADA)
        await store.reply_record(1)
        await store.rating_summary(1, ADA)
        await store.jobs_with_member(ADA)
        await store.delete_messages([1])
        await store.messages([1])
        await store.edit_message(1, "x")
        await store.examples_page(GUILD, None, 0, 5)
        await store._db.set_trace_callback(None)  # type: ignore[arg-type]
        for statement in statements:
            if statement.startswith("--"):
                continue
            plan = await store._fetch_all(f"EXPLAIN QUERY PLAN {statement}")
            whole_tables = [
                row[3]
                for row in plan
                if row[3].startswith("SCAN")
                and row[3].split()[1] in ("messages", "replies", "examples", "ratings", "consents")
            ]
            assert not whole_tables, statement

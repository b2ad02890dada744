"""Consents, ratings, records of replies, jobs' sources; what is known of a member, and its end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import NoConsent, StoreError
from core.records import (
    Choice,
    DuelPair,
    ErasureResult,
    JobState,
    NewExample,
    RatingSummary,
    Role,
    TrainingJob,
)
from data.storage.erasure import erase_member, purge_older_than, resume_erasures
from data.storage.storage import Storage, open_storage
from tests.data.storage.records import ADA, BEN, BOT, CHANNEL, CLEO, GUILD, NOON, OTHER, made, said


async def job(storage: Storage, sources: dict[int, int | None]) -> TrainingJob:
    made = await storage.jobs.add(
        scope=GUILD, requested_by=ADA, channel_id=CHANNEL, base_model="gpt2", directory="jobs/1"
    )
    await storage.jobs.add_sources(made.id, sources)
    return made


class TestLedger:
    async def test_a_consent_stands_until_it_is_withdrawn(self, storage: Storage) -> None:
        assert await storage.consents.active(GUILD, ADA) is None
        assert not await storage.consents.opt_out(GUILD, ADA)
        await storage.consents.opt_in(GUILD, ADA, 1)
        await storage.consents.opt_in(GUILD, ADA, 1)
        await storage.consents.opt_in(GUILD, ADA, 2)
        standing = await storage.consents.active(GUILD, ADA)
        assert standing is not None
        assert (standing.version, standing.withdrawn_at) == (2, None)
        assert (
            await storage.consents.active(OTHER, ADA)
            is await storage.consents.active(GUILD, BEN)
            is None
        )
        assert await storage.consents.opt_out(GUILD, ADA)
        assert await storage.consents.active(GUILD, ADA) is None

    async def test_the_ledger_keeps_every_line(self, storage: Storage) -> None:
        await storage.consents.opt_in(GUILD, ADA, 1)
        await storage.consents.opt_out(GUILD, ADA)
        await storage.consents.opt_in(GUILD, ADA, 1)
        await storage.consents.opt_in(OTHER, ADA, 1)
        lines = await storage.consents.history(ADA)
        assert [(one.scope, one.withdrawn_at is None) for one in lines] == [
            (GUILD, False),
            (GUILD, True),
            (OTHER, True),
        ]
        assert await storage.consents.history(BEN) == []


class TestReplies:
    async def test_a_record_comes_back_and_leads_to_what_was_read(self, storage: Storage) -> None:
        for n in (97, 98, 99):
            await storage.messages.add(said(n, f"message {n}"))
        record = replace(made(100, 99), seen=(97, 99, 98), seed=7, cut=1, first_s=0.1)
        assert await storage.replies.add(record)
        assert await storage.replies.get(100) == record
        await storage.messages.delete([97])
        assert await storage.messages.get_many(record.seen) == [
            said(99, "message 99"),
            said(98, "message 98"),
        ]
        assert await storage.replies.get(404) is None
        assert await storage.messages.get_many([]) == []

    async def test_a_reply_made_anew_has_a_new_record(self, storage: Storage) -> None:
        await storage.messages.add(said(99, "hello"))
        await storage.replies.add(made(100, 99))
        again = replace(made(100, 99), model="tiny")
        await storage.replies.add(again)
        assert await storage.replies.get(100) == again

    async def test_nothing_comes_back_of_what_was_deleted_meanwhile(self, storage: Storage) -> None:
        await storage.messages.add(said(99, "hello"))
        await storage.messages.delete([99])
        assert not await storage.replies.add(made(100, 99))
        await storage.messages.add(said(100, "you said hello", BOT), reply_to_id=99)
        assert await storage.replies.get(100) is None
        assert await storage.messages.context(CHANNEL, 5) == []

    async def test_ratings_are_changed_and_taken_back(self, storage: Storage) -> None:
        assert await storage.replies.rating_summary(100, ADA) == RatingSummary()
        await storage.replies.rate(GUILD, 100, ADA, 1)
        await storage.replies.rate(GUILD, 100, BEN, 1)
        await storage.replies.rate(GUILD, 100, ADA, -1)
        await storage.replies.rate(GUILD, 101, ADA, 1)
        assert await storage.replies.rating_summary(100, ADA) == RatingSummary(
            up=1, down=1, mine=-1
        )
        assert await storage.replies.rating_summary(100) == RatingSummary(up=1, down=1, mine=0)
        await storage.replies.rate(GUILD, 100, ADA, 0)
        assert await storage.replies.rating_summary(100, ADA) == RatingSummary(up=1)
        with pytest.raises(StoreError):
            await storage.replies.rate(GUILD, 100, ADA, 2)

    async def test_a_reply_made_anew_is_rated_anew(self, storage: Storage) -> None:
        for reply, user in ((100, ADA), (100, BEN), (101, ADA)):
            await storage.replies.rate(GUILD, reply, user, 1)
        assert await storage.replies.clear_ratings(100) == 2
        assert await storage.replies.rating_summary(100) == RatingSummary()
        assert await storage.replies.rating_summary(101) == RatingSummary(up=1)


async def test_jobs_know_whose_words_they_learned(storage: Storage) -> None:
    first = await job(storage, {ADA: 1, BEN: None})
    second = await job(storage, {ADA: 2})
    assert await storage.jobs.sources(first.id) == {ADA: 1, BEN: None}
    assert await storage.jobs.with_member(ADA) == [first, second]
    assert await storage.jobs.trained_on_member(ADA) == []
    promoted = await storage.jobs.set_state(second.id, JobState.PROMOTED, checkpoint="gpt2-2")
    assert await storage.jobs.trained_on_member(ADA) == [promoted]
    await storage.jobs.add_sources(first.id, {BEN: 3})
    assert await storage.jobs.sources(first.id) == {ADA: 1, BEN: 3}
    assert await storage.jobs.remove_sources_of_member(ADA) == 2
    assert await storage.jobs.with_member(ADA) == []
    assert await storage.jobs.with_member(BEN) == [first]


async def live(storage: Storage, word: str, others: str = "something") -> None:
    """Ada leaves traces of every kind in two servers; Ben is there too."""
    for scope in (GUILD, OTHER):
        for n in range(scope * 1000, scope * 1000 + 60, 3):
            await storage.messages.add(said(n, f"{word} {n} " + "x" * n, scope=scope))
            await storage.replies.add(made(n + 1, n, scope=scope))
            await storage.messages.add(
                said(n + 1, f"you said {word}", BOT, scope=scope), reply_to_id=n
            )
            await storage.messages.add(said(n + 2, f"{others} {n}", BEN, scope=scope))
            await storage.replies.rate(scope, n + 1, ADA, 1)
        await storage.replies.rate(scope, scope * 1000 + 1, BEN, 1)
        await storage.consents.opt_in(scope, ADA, 1)
        await storage.examples.add(
            NewExample(scope, word, "hi", BOT, "liked", asked_by=ADA, consent_version=1)
        )
        await storage.examples.add(NewExample(scope, "hi?", word, ADA, "teach"))
        await storage.examples.add(NewExample(scope, "who?", others, BEN, "teach"))
    await job(storage, {ADA: 1})


class TestWhatIsKnown:
    async def test_it_is_counted_here_or_everywhere(self, storage: Storage) -> None:
        await live(storage, "marmalade")
        here = await storage.members.summary(ADA, GUILD)
        assert (here.messages, here.replies, here.examples) == (20, 20, 2)
        assert (here.ratings, here.jobs, here.consent) == (
            20,
            1,
            await storage.consents.active(GUILD, ADA),
        )
        everywhere = await storage.members.summary(ADA)
        assert (everywhere.messages, everywhere.examples, everywhere.consent) == (40, 4, None)
        assert (await storage.members.summary(CLEO, GUILD)).messages == 0

    async def test_the_export_has_all_and_is_json(self, storage: Storage) -> None:
        await live(storage, "marmalade")
        await storage.audit.record(GUILD, ADA, "model use", "tiny-1")
        await storage.audit.record(GUILD, BEN, "pause")
        duel = await storage.duels.start(GUILD, ("tiny-1", "tiny-2"), 20, frozenset(), CHANNEL)
        assert duel is not None
        for reply_id in (1001, 1004):
            pair = DuelPair(reply_id, duel.id, True, '{"text": "the other answer"}')
            assert await storage.duels.add_pair(pair)
        assert await storage.duels.vote(1001, ADA, Choice.B)
        await storage.duels.settle(1001)
        told = json.loads(json.dumps(await storage.members.export(ADA)))
        assert {name: len(told[name]) for name in told if name != "user_id"} == {
            "messages": 40,
            "replies": 40,
            "examples": 4,
            "ratings": 40,
            "duel_votes": 1,
            "duel_answers": 1,
            "consents": 2,
            "jobs": 1,
            "golden_questions": 0,
            "audit": 1,
            "forgetting": 0,
        }
        assert told["user_id"] == str(ADA)
        assert told["messages"][0]["discord_id"] == "1000"
        assert told["replies"][0]["content"] == "you said marmalade"
        assert told["replies"][0]["seen"] == ["1000"]
        assert told["duel_votes"][0]["choice"] == "tiny-2"
        assert told["duel_answers"][0]["content"] == "the other answer"
        assert "something" not in json.dumps(told)

    async def test_the_words_of_others_are_in_nobodys_export(self, storage: Storage) -> None:
        await storage.consents.opt_in(GUILD, BEN, 1)
        await storage.examples.add(
            NewExample(GUILD, "of Ben", "of Ada", ADA, "better answer", asked_by=BEN, corrects=True)
        )
        [ada] = (await storage.members.export(ADA))["examples"]
        [ben] = (await storage.members.export(BEN))["examples"]
        assert (ada["user"], ada["bot"]) == (None, "of Ada")
        assert (ben["user"], ben["bot"]) == ("of Ben", None)


def on_disk(path: Path, word: str) -> int:
    """How often the word is in the bytes of the database and the files beside it."""
    files = [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")]
    return sum(one.read_bytes().count(word.encode()) for one in files if one.exists())


class TestForgetting:
    async def test_all_traces_go_and_those_of_others_stay(
        self, storage: Storage, path: Path
    ) -> None:
        await live(storage, "marmalade")
        assert on_disk(path, "marmalade") > 80
        gone = await erase_member(storage, ADA, batch=7)
        assert gone == ErasureResult(messages=40, replies=40, examples=4, ratings=40, consents=2)
        assert on_disk(path, "marmalade") == 0
        assert on_disk(path, "something") >= 42
        left = await storage.members.summary(ADA)
        assert (left.messages, left.replies, left.examples, left.ratings) == (0, 0, 0, 0)
        assert len(await storage.jobs.with_member(ADA)) == 1
        assert all(one.withdrawn_at for one in await storage.consents.history(ADA))
        assert await storage.erasures.unfinished() == []
        assert (await storage.members.summary(BEN)).messages == 40
        assert (await storage.replies.rating_summary(1001, BEN)).mine == 1
        assert {one.author_id for one in await storage.messages.context(CHANNEL, 200)} == {BEN}
        assert not await erase_member(storage, ADA)

    async def test_one_that_was_killed_is_finished_at_the_next_start(self, path: Path) -> None:
        async with open_storage(path) as storage:
            await live(storage, "marmalade")
            await storage.erasures.begin(ADA)
            await storage.erasures.begin(BEN)
            await storage.erasures.erase_batch(ADA, 5)
        async with open_storage(path) as storage:
            assert await storage.erasures.unfinished() == [ADA, BEN]
            await resume_erasures(storage)
            assert await storage.erasures.unfinished() == []
            assert await storage.messages.context(CHANNEL, 5) == []
        assert on_disk(path, "marmalade") == on_disk(path, "something") == 0

    async def test_chat_goes_on_meanwhile_and_what_answers_them_does_not_stay(
        self, storage: Storage, path: Path
    ) -> None:
        await live(storage, "marmalade")
        over = asyncio.Event()
        written: list[int] = []

        async def chat(n: int) -> None:
            while not over.is_set():
                written.append(n)
                await storage.messages.add(said(n, f"marmalade {n}"))
                await storage.replies.add(made(n + 1, n))
                await storage.messages.add(said(n + 1, f"marmalade {n}", BOT), reply_to_id=n)
                await storage.messages.add(said(n + 2, "I am Ben", BEN))
                n += 3
                if n > 5300:
                    return

        chatting = asyncio.create_task(chat(5000))
        await erase_member(storage, ADA, batch=3)
        over.set()
        await chatting
        said_before = [
            one for one in await storage.messages.context(CHANNEL, 500) if one.author_id != BEN
        ]
        for one in said_before:  # what was said after the forgetting had ended
            assert one.discord_id >= 5000
        replies = [one for one in said_before if one.message.role is Role.ASSISTANT]
        for one in replies:
            assert await storage.replies.get(one.discord_id) is not None
        await erase_member(storage, ADA)
        assert on_disk(path, "marmalade") == 0
        assert (await storage.members.summary(BEN)).messages >= 40 + len(written) - 1

    async def test_it_is_not_over_while_another_program_keeps_the_log(
        self, storage: Storage, path: Path
    ) -> None:
        await live(storage, "marmalade")
        await storage._db.execute("PRAGMA busy_timeout = 1")
        async with open_storage(path) as reader:
            await reader._db.execute("BEGIN")
            await reader.messages.context(CHANNEL, 1)
            await erase_member(storage, ADA)
            assert await storage.erasures.unfinished() == [ADA]
            await reader._db.execute("COMMIT")
        await resume_erasures(storage)
        assert await storage.erasures.unfinished() == []
        assert on_disk(path, "marmalade") == 0

    async def test_it_ends_when_what_is_outside_is_gone_too(self, storage: Storage) -> None:
        await live(storage, "marmalade")
        called: list[int] = []

        async def outside(user_id: int) -> None:
            assert (await storage.members.summary(user_id)).messages == 0
            called.append(user_id)
            if len(called) == 1:
                raise StoreError("The file is open elsewhere.")

        with pytest.raises(StoreError):
            await erase_member(storage, ADA, erase_external=outside)
        assert await storage.erasures.unfinished() == [ADA]
        await resume_erasures(storage, erase_external=outside)
        assert await storage.erasures.unfinished() == []
        assert called == [ADA, ADA]

    async def test_nothing_is_collected_from_who_was_forgotten(self, storage: Storage) -> None:
        await storage.consents.opt_in(GUILD, ADA, 1)
        await erase_member(storage, ADA)
        with pytest.raises(NoConsent):
            await storage.examples.add(
                NewExample(GUILD, "a", "b", BOT, "x", asked_by=ADA, consent_version=1)
            )


class TestRetention:
    async def test_what_is_older_goes_in_batches(self, storage: Storage) -> None:
        day = timedelta(days=1)
        for n in range(20):
            await storage.messages.add(said(100 + n, f"{n}", at=NOON - n * day))
            await storage.replies.add(made(200 + n, 100 + n, at=NOON - n * day))
        await storage.examples.add(NewExample(GUILD, "a", "b", ADA, "teach"))
        assert await storage.erasures.purge_batch(NOON - 9.5 * day, 3) == 6
        assert await purge_older_than(storage, NOON - 9.5 * day, batch=3) == 14
        assert await purge_older_than(storage, NOON - 9.5 * day) == 0
        kept = await storage.messages.context(CHANNEL, 50)
        assert [one.discord_id for one in kept] == list(range(100, 110))
        assert await storage.replies.get(209) is not None
        assert await storage.replies.get(210) is None
        assert await storage.examples.count(GUILD) == 1

    async def test_a_fraction_of_a_second_counts(self, storage: Storage) -> None:
        await storage.messages.add(said(1, "on the second", at=NOON))
        await storage.messages.add(said(2, "after it", at=NOON + timedelta(microseconds=1)))
        assert await storage.erasures.purge_batch(NOON + timedelta(microseconds=1), 10) == 1
        assert [one.discord_id for one in await storage.messages.context(CHANNEL, 5)] == [2]


class TestLookUpsDoNotScan:
    """With an index, time does not grow with size."""

    async def test_the_plans(self, storage: Storage, path: Path) -> None:
        statements: list[str] = []
        await storage._db.set_trace_callback(statements.append)
        await storage.members.summary(ADA, GUILD)
        await storage.erasures.erase_batch(ADA, 5)
        await storage.erasures.purge_batch(NOON, 5)
        await storage.consents.active(GUILD, ADA)
        await storage.replies.get(1)
        await storage.replies.rating_summary(1, ADA)
        await storage.jobs.with_member(ADA)
        await storage.messages.delete([1])
        await storage.messages.get_many([1])
        await storage.messages.edit(1, "x")
        await storage.examples.page(GUILD, None, 0, 5)
        await storage._db.set_trace_callback(None)  # type: ignore[arg-type]
        for statement in statements:
            if statement.startswith("--"):
                continue
            plan = await storage._fetch_all(f"EXPLAIN QUERY PLAN {statement}")
            whole_tables = [
                row[3]
                for row in plan
                if row[3].startswith("SCAN")
                and row[3].split()[1] in ("messages", "replies", "examples", "ratings", "consents")
            ]
            assert not whole_tables, statement

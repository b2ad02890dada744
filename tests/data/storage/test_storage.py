"""The contract of the store, on a real SQLite file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import DiskFull, NewerDatabase, StoreError
from core.records import JobState, Message, NewExample, Role, StoredMessage, TrainingJob
from data.storage import migrations
from data.storage.connection import connect
from data.storage.storage import Storage, open_storage
from i18n.phrase import Phrase, join_phrases, phrase
from tests.databases import open_empty

CHANNEL, OTHER_CHANNEL = 10, 11
GUILD, OTHER_GUILD = 1, 2
NOON = datetime(2025, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


def said(
    discord_id: int, content: str = "", *, channel: int = CHANNEL, role: Role = Role.USER
) -> StoredMessage:
    return StoredMessage(
        discord_id=discord_id,
        channel_id=channel,
        author_id=99,
        message=Message(role, content or f"message {discord_id}"),
        created_at=NOON,
    )


async def ids(storage: Storage, limit: int = 50, channel: int = CHANNEL) -> list[int]:
    return [one.discord_id for one in await storage.messages.context(channel, limit)]


async def open_only(path: Path) -> None:
    async with open_storage(path):
        pass


async def model_of(path: Path, scope: int) -> str | None:
    async with open_storage(path) as storage:
        return await storage.model_choices.active(scope)


async def queue(storage: Storage, scope: int = GUILD) -> TrainingJob:
    return await storage.jobs.add(
        scope=scope, requested_by=7, channel_id=CHANNEL, base_model="gpt2", directory="jobs/1"
    )


class TestHistory:
    async def test_a_message_comes_back_as_it_was(self, storage: Storage) -> None:
        message = said(5, "Hello,\nWörld 🙂 <|endoftext|>\0", role=Role.ASSISTANT)
        await storage.messages.add(message)
        assert await storage.messages.context(CHANNEL, 5) == [message]

    async def test_times_come_back_in_utc(self, storage: Storage) -> None:
        local = NOON.astimezone(timezone(timedelta(hours=2)))
        await storage.messages.add(StoredMessage(1, CHANNEL, 9, Message(Role.USER, "a"), local))
        [back] = await storage.messages.context(CHANNEL, 1)
        assert back.created_at == NOON
        assert back.created_at.tzinfo is UTC

    async def test_context_is_exactly_the_last_n_oldest_first(self, storage: Storage) -> None:
        for n in range(1, 9):
            await storage.messages.add(said(n))
        assert await ids(storage, 5) == [4, 5, 6, 7, 8]
        assert await ids(storage, 1) == [8]
        assert await ids(storage, 50) == list(range(1, 9))

    async def test_order_is_arrival_not_the_discord_id(self, storage: Storage) -> None:
        for n in (30, 10, 20):
            await storage.messages.add(said(n))
        assert await ids(storage) == [30, 10, 20]
        assert await ids(storage, 2) == [10, 20]

    async def test_channels_do_not_see_each_other(self, storage: Storage) -> None:
        for n in range(1, 7):
            await storage.messages.add(said(n, channel=CHANNEL if n % 2 else OTHER_CHANNEL))
        assert await ids(storage) == [1, 3, 5]
        assert await ids(storage, channel=OTHER_CHANNEL) == [2, 4, 6]
        assert await ids(storage, channel=12345) == []

    async def test_the_same_message_twice_is_kept_once(self, storage: Storage) -> None:
        await storage.messages.add(said(1, "first"))
        await storage.messages.add(said(1, "again"))
        assert [one.message.content for one in await storage.messages.context(CHANNEL, 5)] == [
            "first"
        ]

    async def test_an_edit_changes_the_context_in_its_place(self, storage: Storage) -> None:
        for n in (1, 2, 3):
            await storage.messages.add(said(n))
        assert await storage.messages.edit(2, "edited")
        said_now = [one.message.content for one in await storage.messages.context(CHANNEL, 5)]
        assert said_now == ["message 1", "edited", "message 3"]

    async def test_an_edit_of_an_unknown_message_is_told(self, storage: Storage) -> None:
        assert not await storage.messages.edit(404, "edited")
        assert await ids(storage) == []

    async def test_a_deleted_message_leaves_and_an_older_one_moves_up(
        self, storage: Storage
    ) -> None:
        for n in range(1, 7):
            await storage.messages.add(said(n))
        assert await storage.messages.delete([4, 6, 404]) == 2
        assert await ids(storage, 3) == [2, 3, 5]
        assert await storage.messages.delete([]) == 0

    async def test_a_purge_of_many_messages_is_one_call(self, storage: Storage) -> None:
        await asyncio.gather(*(storage.messages.add(said(n)) for n in range(1, 301)))
        assert await storage.messages.delete(set(range(1, 100_001))) == 300

    async def test_reset_forgets_only_what_was_before_and_only_there(
        self, storage: Storage
    ) -> None:
        await storage.messages.add(said(1))
        await storage.messages.add(said(2, channel=OTHER_CHANNEL))
        await storage.messages.reset_context(CHANNEL)
        assert await ids(storage) == []
        await storage.messages.add(said(3))
        assert await ids(storage) == [3]
        assert await ids(storage, channel=OTHER_CHANNEL) == [2]

    async def test_reset_again_and_in_an_empty_channel(self, storage: Storage) -> None:
        await storage.messages.reset_context(CHANNEL)
        await storage.messages.add(said(1))
        assert await ids(storage) == [1]
        await storage.messages.reset_context(CHANNEL)
        await storage.messages.reset_context(CHANNEL)
        assert await ids(storage) == []

    async def test_reset_stays_where_it_was_if_the_messages_before_it_go(
        self, storage: Storage
    ) -> None:
        for n in (1, 2, 3):
            await storage.messages.add(said(n))
        await storage.messages.reset_context(CHANNEL)
        await storage.messages.delete([2, 3])
        await storage.messages.add(said(4))
        assert await ids(storage) == [4]

    async def test_a_reset_keeps_the_rows(self, storage: Storage, path: Path) -> None:
        await storage.messages.add(said(1))
        await storage.messages.reset_context(CHANNEL)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM messages").fetchone() == (1,)

    async def test_concurrent_writers_lose_nothing(self, storage: Storage) -> None:
        channels = range(100, 110)

        async def talk(channel: int) -> None:
            for n in range(20):
                await storage.messages.add(said(channel * 1000 + n, channel=channel))

        await asyncio.gather(*(talk(channel) for channel in channels))
        for channel in channels:
            expected = [channel * 1000 + n for n in range(20)]
            assert await ids(storage, channel=channel) == expected

    async def test_a_cancelled_writer_does_not_hold_up_the_others(self, storage: Storage) -> None:
        cancelled = asyncio.create_task(storage.messages.add(said(1)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await storage.messages.add(said(2))
        assert (await ids(storage))[-1] == 2

    async def test_context_is_read_from_the_index(self, storage: Storage, path: Path) -> None:
        statements: list[str] = []
        await storage._db.set_trace_callback(statements.append)
        await storage.messages.context(CHANNEL, 5)
        with closing(sqlite3.connect(path)) as db:
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statements[-1]}")]
        assert any("USING INDEX messages_by_channel" in step for step in plan)
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan)


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "edit", "delete", "reset"]),
        st.integers(1, 12),
        st.sampled_from([CHANNEL, OTHER_CHANNEL]),
    ),
    max_size=30,
)


class Model:
    """What the history should be, as plainly as it can be said."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, int, str]] = []
        self.forgotten: set[int] = set()
        self.known: set[int] = set()

    def take(self, step: Step, content: str) -> None:
        match step:
            case ("add", discord_id, channel) if discord_id not in self.known:
                self.messages.append((discord_id, channel, content))
                self.known.add(discord_id)
            case ("edit", discord_id, _):
                self.messages = [
                    (one, c, content if one == discord_id else old) for one, c, old in self.messages
                ]
            case ("delete", discord_id, _):
                self.messages = [one for one in self.messages if one[0] != discord_id]
                self.known.discard(discord_id)
                self.forgotten.discard(discord_id)
            case ("reset", _, channel):
                self.forgotten |= {one for one, c, _ in self.messages if c == channel}

    def context(self, channel: int, limit: int) -> list[str]:
        seen = [t for one, c, t in self.messages if c == channel and one not in self.forgotten]
        return seen[-limit:]


async def take(storage: Storage, step: Step, content: str) -> None:
    match step:
        case ("add", discord_id, channel):
            await storage.messages.add(said(discord_id, content, channel=channel))
        case ("edit", discord_id, _):
            await storage.messages.edit(discord_id, content)
        case ("delete", discord_id, _):
            await storage.messages.delete([discord_id])
        case ("reset", _, channel):
            await storage.messages.reset_context(channel)


@given(steps=steps, limit=st.integers(1, 6))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_gives_the_context_that_a_list_would(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], limit: int
) -> None:
    async def check() -> None:
        model = Model()
        async with open_empty(tmp_path_factory.mktemp("any") / "db") as storage:
            for n, step in enumerate(steps):
                model.take(step, f"text {n}")
                await take(storage, step, f"text {n}")
            for channel in (CHANNEL, OTHER_CHANNEL):
                seen = [
                    one.message.content for one in await storage.messages.context(channel, limit)
                ]
                assert seen == model.context(channel, limit)

    asyncio.run(check())


class TestChannelsAndModels:
    async def test_channels_are_switched_on_and_off(self, storage: Storage) -> None:
        assert await storage.channels.enabled() == set()
        await storage.channels.set_enabled(CHANNEL, GUILD, True)
        await storage.channels.set_enabled(OTHER_CHANNEL, GUILD, True)
        await storage.channels.set_enabled(CHANNEL, GUILD, True)
        assert await storage.channels.enabled() == {CHANNEL, OTHER_CHANNEL}
        await storage.channels.set_enabled(CHANNEL, GUILD, False)
        assert await storage.channels.enabled() == {OTHER_CHANNEL}

    async def test_each_scope_has_its_own_model(self, storage: Storage) -> None:
        await storage.model_choices.set_active(GUILD, "gpt2")
        await storage.model_choices.set_active(GUILD, "tiny")
        await storage.model_choices.set_active(OTHER_GUILD, "v1")
        assert await storage.model_choices.active(GUILD) == "tiny"
        assert await storage.model_choices.active(OTHER_GUILD) == "v1"
        assert await storage.model_choices.active(12345) is None
        assert await storage.model_choices.all_active() == {(GUILD, "tiny"), (OTHER_GUILD, "v1")}

    async def test_choices_are_remembered_and_taken_back_one_by_one(self, storage: Storage) -> None:
        await storage.model_choices.set_active(OTHER_GUILD, "v1")
        for name in ("tiny", "v1", "v1", "tiny", "v2"):
            await storage.model_choices.set_active(GUILD, name)
        assert await storage.model_choices.previous(GUILD) == ["tiny", "v1", "tiny"]
        assert await storage.model_choices.roll_back(GUILD) == "tiny"
        assert await storage.model_choices.previous(GUILD) == ["v1", "tiny"]
        assert await storage.model_choices.roll_back(GUILD) == "v1"
        assert await storage.model_choices.roll_back(GUILD) == "tiny"
        assert await storage.model_choices.roll_back(GUILD) is None
        assert await storage.model_choices.active(GUILD) == "tiny"
        assert await storage.model_choices.active(OTHER_GUILD) == "v1"

    async def test_a_scope_without_a_choice_has_none_to_take_back(self, storage: Storage) -> None:
        assert await storage.model_choices.roll_back(GUILD) is None
        assert await storage.model_choices.previous(GUILD) == []
        assert await storage.model_choices.all_active() == set()

    async def test_of_many_who_take_back_at_once_each_takes_one(self, storage: Storage) -> None:
        for n in range(5):
            await storage.model_choices.set_active(GUILD, f"v{n}")
        taken = await asyncio.gather(*(storage.model_choices.roll_back(GUILD) for _ in range(6)))
        assert set(taken) == {"v3", "v2", "v1", "v0", None}
        assert await storage.model_choices.active(GUILD) == "v0"


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([GUILD, OTHER_GUILD]), st.sampled_from(["a", "b", None])),
        max_size=20,
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_choices_of_models_are_a_stack(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str | None]]
) -> None:
    async def check() -> None:
        stacks: dict[int, list[str]] = {GUILD: [], OTHER_GUILD: []}
        async with open_empty(tmp_path_factory.mktemp("stack") / "db") as storage:
            for scope, name in steps:
                stack = stacks[scope]
                if name is None:
                    expected = stack[-2] if len(stack) > 1 else None
                    del stack[max(1, len(stack) - 1) :]
                    assert await storage.model_choices.roll_back(scope) == expected
                else:
                    stack += [name] if stack[-1:] != [name] else []
                    await storage.model_choices.set_active(scope, name)
            for scope, stack in stacks.items():
                assert await storage.model_choices.active(scope) == (stack[-1] if stack else None)
                assert await storage.model_choices.previous(scope) == stack[-2::-1]
            active = {(scope, stack[-1]) for scope, stack in stacks.items() if stack}
            assert await storage.model_choices.all_active() == active

    asyncio.run(check())


class TestExamples:
    async def test_an_example_comes_back_as_it_was(self, storage: Storage) -> None:
        before = datetime.now(UTC)
        added = await storage.examples.add(NewExample(GUILD, "who?", "me 🙂", 7, "teach"))
        assert (added.scope, added.user, added.bot) == (GUILD, "who?", "me 🙂")
        assert (added.author_id, added.source) == (7, "teach")
        assert before <= added.created_at <= datetime.now(UTC)
        assert await storage.examples.all(GUILD) == [added]

    async def test_the_same_pair_is_the_existing_one(self, storage: Storage) -> None:
        first = await storage.examples.add(NewExample(GUILD, "a", "b", 7, "teach"))
        assert await storage.examples.add(NewExample(GUILD, "a", "b", 8, "import")) == first
        assert await storage.examples.count(GUILD) == 1

    async def test_another_answer_or_scope_is_another_example(self, storage: Storage) -> None:
        first = await storage.examples.add(NewExample(GUILD, "a", "b", 7, "teach"))
        second = await storage.examples.add(NewExample(GUILD, "a", "c", 7, "teach"))
        third = await storage.examples.add(NewExample(OTHER_GUILD, "a", "b", 7, "teach"))
        assert await storage.examples.all(GUILD) == [first, second]
        assert await storage.examples.all(OTHER_GUILD) == [third]
        assert await storage.examples.count(GUILD) == 2

    async def test_only_the_scope_can_remove_and_ids_are_not_used_again(
        self, storage: Storage
    ) -> None:
        added = await storage.examples.add(NewExample(GUILD, "a", "b", 7, "teach"))
        assert not await storage.examples.remove(OTHER_GUILD, added.id)
        assert await storage.examples.remove(GUILD, added.id)
        assert not await storage.examples.remove(GUILD, added.id)
        assert await storage.examples.all(GUILD) == []
        assert (await storage.examples.add(NewExample(GUILD, "a", "b", 7, "teach"))).id > added.id

    async def test_many_teach_the_same_at_once(self, storage: Storage) -> None:
        taught = await asyncio.gather(
            *(
                storage.examples.add(NewExample(GUILD, "a", f"b{n % 3}", n, "teach"))
                for n in range(30)
            )
        )
        assert len({one.id for one in taught}) == 3


class TestJobs:
    async def test_a_new_job_is_queued(self, storage: Storage) -> None:
        job = await queue(storage)
        assert (job.scope, job.requested_by, job.channel_id) == (GUILD, 7, CHANNEL)
        assert (job.base_model, job.directory) == ("gpt2", "jobs/1")
        assert (job.state, job.checkpoint, job.detail) == (JobState.QUEUED, None, None)
        assert await storage.jobs.get(job.id) == job

    async def test_states_move_on_and_keep_what_was_known(self, storage: Storage) -> None:
        job = await queue(storage)
        running = await storage.jobs.set_state(job.id, JobState.RUNNING)
        assert running.state is JobState.RUNNING
        made = await storage.jobs.set_state(job.id, JobState.RUNNING, checkpoint="v1")
        done = await storage.jobs.set_state(job.id, JobState.REJECTED, detail="It repeats itself.")
        assert made.checkpoint == done.checkpoint == "v1"
        assert done.detail == "It repeats itself."
        assert await storage.jobs.get(job.id) == done

    async def test_what_came_of_a_job_can_be_said_in_other_languages(
        self, storage: Storage
    ) -> None:
        job, old = await queue(storage), await queue(storage)
        detail = join_phrases([phrase("{seconds} s", seconds=3), "{as it is}"])
        await storage.jobs.set_state(job.id, JobState.FAILED, detail=detail)
        plain = '{"text": of an old version'
        await storage.jobs.transition(old.id, (JobState.QUEUED,), JobState.PAUSED, plain)
        said = [one.detail for one in await storage.jobs.all(job.scope)]
        assert said == ["3 s {as it is}", plain]
        assert isinstance(said[0], Phrase)
        assert said[0].translate_to("ja") == "3秒 {as it is}"

    async def test_an_unknown_job(self, storage: Storage) -> None:
        assert await storage.jobs.get(404) is None
        with pytest.raises(StoreError, match="no training job 404"):
            await storage.jobs.set_state(404, JobState.FAILED)

    async def test_each_start_is_an_attempt(self, storage: Storage) -> None:
        job = await queue(storage)
        assert job.attempts == 0
        first = await storage.jobs.start(job.id)
        assert first
        assert (first.state, first.attempts) == (JobState.RUNNING, 1)
        second = await storage.jobs.start(job.id)
        assert second
        assert (second.state, second.attempts) == (JobState.RUNNING, 2)
        assert await storage.jobs.get(job.id) == second
        await storage.jobs.reset_attempts(job.id)
        assert await storage.jobs.get(job.id) == replace(second, attempts=0)

    @pytest.mark.parametrize(
        "state", [one for one in JobState if one.is_final or one is JobState.PAUSED]
    )
    async def test_only_a_job_that_waits_is_started(
        self, storage: Storage, state: JobState
    ) -> None:
        job = await queue(storage)
        await storage.jobs.set_state(job.id, state)
        assert await storage.jobs.start(job.id) is None
        assert await storage.jobs.start(404) is None
        assert (await storage.jobs.get(job.id)) == replace(job, state=state)

    async def test_a_job_moves_only_from_the_states_that_are_named(self, storage: Storage) -> None:
        job = await queue(storage)
        waiting = (JobState.QUEUED, JobState.PAUSED)
        moved = await storage.jobs.transition(job.id, waiting, JobState.CANCELLED, "Stopped.")
        assert moved == replace(job, state=JobState.CANCELLED, detail="Stopped.")
        assert await storage.jobs.transition(job.id, waiting, JobState.PAUSED) is None
        assert await storage.jobs.get(job.id) == moved

    async def test_all_jobs_of_a_scope(self, storage: Storage) -> None:
        jobs = [await queue(storage) for _ in range(2)]
        assert await storage.jobs.all(jobs[0].scope) == jobs
        assert await storage.jobs.all(404) == []

    async def test_the_message_of_a_job_is_remembered_until_it_is_gone(
        self, storage: Storage
    ) -> None:
        job = await queue(storage)
        assert job.message_id is None
        await storage.jobs.set_message(job.id, 123456789012345678)
        running = await storage.jobs.set_state(job.id, JobState.RUNNING)
        assert running.message_id == 123456789012345678
        await storage.jobs.set_message(job.id, None)
        await storage.jobs.set_message(404, 5)
        assert await storage.jobs.get(job.id) == replace(running, message_id=None)

    async def test_open_jobs_are_those_that_have_not_ended(self, storage: Storage) -> None:
        jobs = [await queue(storage) for _ in JobState]
        for job, state in zip(jobs, JobState, strict=True):
            await storage.jobs.set_state(job.id, state)
        elsewhere = await queue(storage, OTHER_GUILD)
        here = [jobs[0].id, jobs[1].id, jobs[2].id]  # queued, running, paused
        assert [job.id for job in await storage.jobs.unfinished(GUILD)] == here
        everywhere = [*here, elsewhere.id]
        assert [job.id for job in await storage.jobs.unfinished()] == everywhere
        assert await storage.jobs.unfinished(12345) == []

    async def test_latest_and_checkpoint_jobs_belong_to_the_scope(self, storage: Storage) -> None:
        assert await storage.jobs.latest(GUILD) is None
        first, second, third = [await queue(storage) for _ in range(3)]
        await queue(storage, OTHER_GUILD)
        await storage.jobs.set_state(third.id, JobState.PROMOTED, checkpoint="v3")
        await storage.jobs.set_state(first.id, JobState.REJECTED, checkpoint="v1")
        latest = await storage.jobs.latest(GUILD)
        assert latest is not None
        assert latest.id == third.id
        made = await storage.jobs.with_checkpoint(GUILD)
        assert [(job.id, job.checkpoint) for job in made] == [(first.id, "v1"), (third.id, "v3")]
        assert second.id not in {job.id for job in made}


async def test_a_statement_that_succeeds_makes_no_sentence(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would format a template, in a part of the bot that runs for every message."""
    made: list[str] = []
    make = Phrase.__new__

    def counted(cls: type[Phrase], template: str, *more: Any) -> Phrase:
        made.append(template)
        return make(cls, template, *more)

    monkeypatch.setattr(Phrase, "__new__", counted)
    await storage.messages.add(said(1))
    assert await storage.messages.context(CHANNEL, 5)
    assert made == []


class TestTheFile:
    async def test_it_is_its_owners_alone(self, path: Path) -> None:
        before = os.umask(0)
        try:
            async with open_storage(path) as storage:
                await storage.messages.add(said(1))
                modes = {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()}
        finally:
            os.umask(before)
        assert modes == {f"{path.name}{ending}": 0o600 for ending in ("", "-wal", "-shm")}

    async def test_everything_survives_a_restart(self, path: Path) -> None:
        async with open_storage(path) as storage:
            await storage.messages.add(said(1))
            await storage.messages.reset_context(CHANNEL)
            await storage.messages.add(said(2))
            await storage.channels.set_enabled(CHANNEL, GUILD, True)
            await storage.model_choices.set_active(GUILD, "v1")
            example = await storage.examples.add(NewExample(GUILD, "a", "b", 7, "teach"))
            job = await storage.jobs.set_state((await queue(storage)).id, JobState.RUNNING)
        async with open_storage(path) as storage:
            assert await ids(storage) == [2]
            assert await storage.channels.enabled() == {CHANNEL}
            assert await storage.model_choices.active(GUILD) == "v1"
            assert await storage.examples.all(GUILD) == [example]
            assert await storage.jobs.unfinished() == [job]

    def test_what_was_written_survives_a_killed_process(self, path: Path) -> None:
        code = (
            "import asyncio, os, sys; from pathlib import Path\n"
            "from data.storage.storage import open_storage\n"
            "async def main():\n"
            "    async with open_storage(Path(sys.argv[1])) as storage:\n"
            "        await storage.model_choices.set_active(1, 'v7')\n"
            "        os._exit(9)\n"
            "asyncio.run(main())"
        )
        killed = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False)
        assert killed.returncode == 9
        assert asyncio.run(model_of(path, 1)) == "v7"

    async def test_it_is_in_wal_mode_and_numbered(self, storage: Storage, path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA user_version").fetchone() == (migrations.SCHEMA_VERSION,)

    async def test_two_processes_may_open_a_new_file_at_once(self, path: Path) -> None:
        async with open_storage(path) as one, open_storage(path) as two:
            await one.messages.add(said(1))
            await two.messages.add(said(2))
            assert await ids(one) == await ids(two) == [1, 2]

    async def test_a_step_that_fails_leaves_no_trace(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_storage(path) as storage:
            await storage.messages.add(said(1))
        broken = ("CREATE TABLE half_done (x)", "CREATE TABLE messages (x)")
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
            patch.setattr(migrations, "SCHEMA_VERSION", migrations.SCHEMA_VERSION + 1)
            with pytest.raises(StoreError, match="messages already exists"):
                await open_only(path)
        with closing(sqlite3.connect(path)) as db:
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
            assert db.execute("PRAGMA user_version").fetchone() == (migrations.SCHEMA_VERSION,)
        assert "half_done" not in tables
        async with open_storage(path) as storage:
            assert await ids(storage) == [1]

    async def test_a_database_of_the_first_version_loses_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
            patch.setattr(migrations, "SCHEMA_VERSION", 1)
            async with connect(path) as db:
                await db.execute("INSERT INTO active_models VALUES (1, 'gpt2-2'), (2, 'tiny')")
                await db.execute(
                    """
                    INSERT INTO jobs VALUES (7, 1, 3, 10, 'gpt2', 'jobs/1', 'promoted',
                        '2025-06-01T12:00:00.123456+00:00', 'gpt2-2', 'It passed.')
                    """
                )
                await db.execute(
                    """
                    INSERT INTO messages VALUES (1, 1, 10, 99, 'user', 'message 1',
                        '2025-06-01T12:00:00.123456+00:00')
                    """
                )
        async with open_storage(path) as storage:
            assert await storage.model_choices.all_active() == {(1, "gpt2-2"), (2, "tiny")}
            assert await storage.model_choices.previous(1) == []
            assert await storage.jobs.get(7) == TrainingJob(
                7, 1, 3, 10, "gpt2", "jobs/1", JobState.PROMOTED, NOON, "gpt2-2", "It passed."
            )
            assert await storage.messages.context(CHANNEL, 5) == [said(1)]
            assert (await queue(storage)).id == 8
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (migrations.SCHEMA_VERSION,)
            [times] = db.execute("SELECT min(created_at) FROM activations")
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        assert "active_models" not in tables
        assert datetime.fromisoformat(times[0]).tzinfo is not None

    @pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
    def test_a_newer_database_is_refused_and_not_changed(self, path: Path, closed: bool) -> None:
        leave = "db.close()" if closed else "os._exit(0)"
        code = (
            "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "db.execute('PRAGMA journal_mode = WAL'); db.execute('CREATE TABLE future (x)');"
            f"db.execute('PRAGMA user_version = {migrations.SCHEMA_VERSION + 1}'); {leave}"
        )
        subprocess.run([sys.executable, "-c", code, path], check=True)
        before = path.read_bytes()
        with pytest.raises(NewerDatabase, match="written by a newer version"):
            asyncio.run(open_only(path))
        assert path.read_bytes() == before
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT * FROM future").fetchall() == []

    async def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"cannot be opened: Is a directory\.$"):
            await open_only(tmp_path)

    async def test_a_missing_folder_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"cannot be opened: No such file or directory\.$"):
            await open_only(tmp_path / "nowhere" / "db")

    @pytest.mark.parametrize("garbage", [b"x", b"SQLite is not this", b"not a database\n" * 1000])
    def test_a_file_that_is_no_database_is_refused_and_not_changed(
        self, path: Path, garbage: bytes
    ) -> None:
        path.write_bytes(garbage)
        with pytest.raises(StoreError, match="is not a database"):
            asyncio.run(open_only(path))
        assert path.read_bytes() == garbage

    def test_a_damaged_database_is_told_when_it_is_read(self, path: Path) -> None:
        async def write() -> None:
            async with open_storage(path) as storage:
                for n in range(200):
                    await storage.messages.add(said(n + 1, "x" * 500))

        async def read() -> None:
            async with open_storage(path) as storage:
                await storage.messages.context(CHANNEL, 50)

        asyncio.run(write())
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(bytes(range(256)) * (path.stat().st_size // 256 - 16))
        with pytest.raises(StoreError, match="is damaged"):
            asyncio.run(read())

    async def test_a_database_that_another_program_holds(
        self, storage: Storage, path: Path
    ) -> None:
        await storage._db.execute("PRAGMA busy_timeout = 1")
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="in use by another program"):
                await storage.messages.add(said(1))
            db.execute("ROLLBACK")
        await storage.messages.add(said(2))
        assert await ids(storage) == [2]

    async def test_a_touch_is_a_real_write(self, storage: Storage, path: Path) -> None:
        log = path.with_name(f"{path.name}-wal")
        before = log.stat().st_size
        await storage.check_writable()
        assert log.stat().st_size > before
        await storage._db.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="cannot be used"):
            await storage.check_writable()


class TestDiskFull:
    async def fill(self, storage: Storage) -> int:
        """Write until there is no room; how many messages went in."""
        [pages] = await storage._fetch_all("PRAGMA page_count")
        await storage._db.execute(f"PRAGMA max_page_count = {pages[0] + 12}")
        for n in range(1, 1000):
            try:
                await storage.messages.add(said(n, "x" * 2000))
            except DiskFull:
                return n - 1
        raise AssertionError("the limit did not hold")

    async def test_earlier_data_stays_and_writing_works_again(
        self, storage: Storage, path: Path
    ) -> None:
        written = await self.fill(storage)
        assert written > 5
        assert await ids(storage, 999) == list(range(1, written + 1))
        with pytest.raises(DiskFull, match="disk is full"):
            await storage.examples.add(NewExample(GUILD, "x" * 90_000, "y", 7, "teach"))
        assert await storage.examples.all(GUILD) == []

        await storage._db.execute("PRAGMA max_page_count = 1073741823")
        await storage.messages.add(said(5000))
        assert await ids(storage, 999) == [*range(1, written + 1), 5000]
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    async def test_deleting_makes_room(self, storage: Storage) -> None:
        written = await self.fill(storage)
        assert await storage.messages.delete(range(1, written + 1)) == written
        await storage.messages.add(said(5000))
        assert await ids(storage) == [5000]

"""The life of a training job: real store, real child processes, a base that learns nothing.

The base says one sentence to everybody and the learning rate is 0, so a run takes a moment and
its checkpoint passes. What the composition root hands in is what the tests decide.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from data.errors import StoreError
from data.schema import JobState, TrainingJob
from data.store import Store, open_store
from model.errors import LoadFailed
from model.registry import ModelOption
from tests.model_folders import make_model_folder
from training.checkpoints import verify
from training.config import TrainingConfig
from training.errors import CorruptCheckpoint, EmptyDataset, JobRunning
from training.manager import JobUpdate, TrainingManager
from training.progress import Started, Step

GUILD, OTHER = 1, 2
HAS_PROC = Path("/proc/self/environ").exists()
ENDLESS = 1_000_000
"""Steps of a run that the test ends in another way."""


class House:
    """A manager between a store and a composition root that writes down what it is told."""

    def __init__(self, store: Store, root: Path, base: Path) -> None:
        self.store = store
        self.root = root
        self.base = ModelOption("small", str(base), "", "", "", "")
        self.config = TrainingConfig(
            name="small", base=str(base), learning_rate=0.0, epochs=1, precision="fp32"
        )
        self.promoted: list[Path] = []
        self.updates: list[JobUpdate] = []
        self.refusal: Exception | None = None
        self.started = asyncio.Event()
        self.on_event: Callable[[JobUpdate], Awaitable[None]] | None = None
        self.manager = TrainingManager(store, root, promote=self.promote, on_update=self.hear)

    async def promote(self, job: TrainingJob, folder: Path) -> None:
        verify(folder)
        if self.refusal:
            raise self.refusal
        self.promoted.append(folder)

    async def hear(self, update: JobUpdate) -> None:
        self.updates.append(update)
        if isinstance(update.event, Started):
            self.started.set()
        if self.on_event:
            await self.on_event(update)

    async def submit(self, scope: int = GUILD, *, min_steps: int = 2) -> TrainingJob:
        return await self.manager.submit(
            scope=scope,
            requested_by=7,
            channel_id=8,
            base=self.base,
            config=replace(self.config, min_steps=min_steps),
        )

    async def running(self) -> None:
        """Return once the first run's process has said that it began."""
        async with asyncio.timeout(60):
            await self.started.wait()

    async def ended(self, job: TrainingJob) -> TrainingJob:
        async with asyncio.timeout(60):
            return await self.manager.wait(job.id)

    def states(self, job: TrainingJob) -> list[JobState]:
        return [one.job.state for one in self.updates if one.job.id == job.id and not one.event]

    async def teach(self, scope: int, user: str, bot: str) -> None:
        await self.store.add_example(scope, user, bot, 7, "teach")

    def child(self) -> int:
        """The process id of the run under way."""
        current = self.manager._current
        assert current is not None
        return current[1].pid


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("base") / "small", says="quite well thanks")


@asynccontextmanager
async def open_house(root: Path, base: Path) -> AsyncIterator[House]:
    async with open_store(root / "bot.sqlite3") as store:
        for scope in (GUILD, OTHER):
            await store.add_example(scope, "hello", "hi", 7, "teach")
        yield House(store, root, base)


@pytest.fixture
async def house(tmp_path: Path, base: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, base) as house:
        yield house


def once_running(act: Callable[[], Awaitable[object]]) -> Callable[[JobUpdate], Awaitable[None]]:
    async def hear(update: JobUpdate) -> None:
        if isinstance(update.event, Started):
            await act()

    return hear


def read(job: TrainingJob, name: str) -> str:
    return (Path(job.directory) / name).read_text(encoding="utf-8")


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_job_from_the_question_to_service(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "secret")
    monkeypatch.setenv("KNOWN", "to all")
    seen: list[bytes] = []

    async def look() -> None:
        seen.append(environment(house.child()))

    if HAS_PROC:
        house.on_event = once_running(look)
    await house.teach(GUILD, "Hello", "Good day.")  # corrects "hello"
    await house.teach(GUILD, "who?", "me")
    async with house.manager:
        job = await house.submit()
        assert job.state is JobState.QUEUED
        done = await house.ended(job)
    assert house.states(job) == [JobState.QUEUED, JobState.RUNNING, JobState.PROMOTED]
    assert done.checkpoint == "small-1"
    assert (done.detail or "").startswith("**small-1** is trained and answers from now on.")
    assert house.promoted == [house.root / "checkpoints" / str(GUILD) / "small-1"]
    assert verify(house.promoted[0]).settings["learning_rate"] == 0.0
    assert [manifest.name for _, manifest in house.manager.checkpoints(GUILD)] == ["small-1"]
    assert house.manager.checkpoints(OTHER) == []
    events = [one.event for one in house.updates if one.event]
    assert isinstance(events[0], Started)
    assert any(isinstance(one, Step) for one in events)
    assert bool(seen) is HAS_PROC
    assert all(b"KNOWN=to all" in one and b"secret" not in one for one in seen)
    rows = [json.loads(line) for line in read(job, "dataset.jsonl").splitlines()]
    assert rows == [{"user": "Hello", "bot": "Good day."}, {"user": "who?", "bot": "me"}]


async def test_jobs_run_one_after_the_other_in_order_of_arrival(house: House) -> None:
    async def fail(_: JobUpdate) -> None:
        raise RuntimeError("no channel")

    house.on_event = fail  # a listener's trouble is not the job's
    async with house.manager:
        first, other = await house.submit(GUILD), await house.submit(OTHER)
        await house.ended(other)
        shutil.rmtree(house.root / "checkpoints" / str(GUILD) / "small-1")
        again = await house.ended(await house.submit())
    running = [one.job.id for one in house.updates if one.job.state is JobState.RUNNING]
    assert running == sorted(running)
    assert house.states(first)[-1] is house.states(other)[-1] is JobState.PROMOTED
    assert again.checkpoint == "small-2", "a name that was given away is not used again"


async def test_two_at_once_in_one_server_are_one_job(house: House) -> None:
    async with house.manager:
        results = await asyncio.gather(house.submit(), house.submit(), return_exceptions=True)
        [refused] = [one for one in results if isinstance(one, Exception)]
        assert isinstance(refused, JobRunning)
        assert len(list((house.root / "jobs").iterdir())) == 1


async def test_nothing_was_taught(house: House) -> None:
    async with house.manager:
        with pytest.raises(EmptyDataset, match="nothing to learn from"):
            await house.submit(scope=3)
    assert not (house.root / "jobs").exists()


async def test_the_snapshot_cannot_be_written(house: House) -> None:
    (house.root / "jobs").write_text("in the way")
    async with house.manager:
        with pytest.raises(StoreError, match="training job could not be written: Not a directory"):
            await house.submit()
        assert await house.store.open_jobs() == []


async def test_the_checkpoint_cannot_be_put_into_service(house: House) -> None:
    house.refusal = LoadFailed("The weights are too heavy.")
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.REJECTED
    assert done.detail == (
        "**small-1** could not be put into service. The weights are too heavy. "
        "The model that was in service stays."
    )
    verify(house.root / "checkpoints" / str(GUILD) / "small-1")


async def test_a_checkpoint_that_fails_its_checks_is_kept_but_not_promoted(
    tmp_path: Path,
) -> None:
    mute = make_model_folder(tmp_path / "mute", says="")
    async with open_house(tmp_path, mute) as house, house.manager:
        done = await house.ended(await house.submit())
        assert done.state is JobState.REJECTED
        assert house.promoted == []
        assert "did not pass its checks. It had no answer to “hello”." in (done.detail or "")
        assert "`/model use small-1` tries it anyway" in (done.detail or "")
        verify(house.root / "checkpoints" / str(GUILD) / "small-1")


async def test_what_the_run_says_of_its_failure_is_told(house: House) -> None:
    house.config = replace(house.config, base="nobody/no-such-model")
    async with house.manager:
        done = await house.ended(await house.submit())
        assert done.state is JobState.FAILED
        assert "nobody/no-such-model cannot be had" in (done.detail or "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send")
async def test_a_killed_run_fails_and_the_queue_goes_on(house: House) -> None:
    async def kill() -> None:
        os.kill(house.child(), signal.SIGKILL)
        house.on_event = None

    house.on_event = once_running(kill)
    async with house.manager:
        killed, other = await house.submit(min_steps=ENDLESS), await house.submit(OTHER)
        done = await house.ended(killed)
        assert done.state is JobState.FAILED
        assert done.detail == (
            "The training process was stopped (signal 9) before it had finished. "
            "The model that was in service stays."
        )
        assert (await house.ended(other)).state is JobState.PROMOTED
    assert house.manager.checkpoints(GUILD) == []


async def test_a_job_is_stopped_running_or_waiting(house: House) -> None:
    async with house.manager:
        first, second = await house.submit(min_steps=ENDLESS), await house.submit(OTHER)
        await house.running()
        assert await house.manager.cancel(second.id)
        assert (await house.ended(second)).state is JobState.CANCELLED
        assert await house.manager.cancel(first.id)
        done = await house.ended(first)
        assert done.state is JobState.CANCELLED
        assert done.detail == "The training was stopped. The model that was in service stays."
        assert not await house.manager.cancel(first.id)
        assert not await house.manager.cancel(99)
    assert JobState.RUNNING not in house.states(second)
    assert house.promoted == []


async def test_a_job_is_stopped_before_its_process_is_there(house: House) -> None:
    async def stop(update: JobUpdate) -> None:
        if update.job.state is JobState.RUNNING and not update.event:
            await house.manager.cancel(update.job.id)

    house.on_event = stop
    async with house.manager:
        done = await house.ended(await house.submit(min_steps=ENDLESS))
    assert done.state is JobState.CANCELLED
    assert not any(one.event for one in house.updates)


async def test_the_bot_stops_while_a_job_runs(house: House) -> None:
    async with house.manager:
        job, waiting = await house.submit(min_steps=ENDLESS), await house.submit(OTHER)
        await house.running()
        pid = house.child()
    stopped = await house.store.job(job.id)
    assert stopped is not None
    assert stopped.state is JobState.INTERRUPTED
    assert "interrupted because the bot stopped" in (stopped.detail or "")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

    after = House(house.store, house.root, Path(house.base.source))
    async with after.manager:  # the one that waited goes on at the next start
        assert (await after.ended(waiting)).state is JobState.PROMOTED


async def test_a_job_that_was_running_at_a_crash_is_interrupted(house: House) -> None:
    job = await house.store.add_job(
        scope=GUILD, requested_by=7, channel_id=8, base_model="small", directory="gone"
    )
    await house.store.set_job_state(job.id, JobState.RUNNING)
    async with house.manager:
        done = await house.ended(job)
        assert done.state is JobState.INTERRUPTED
        assert "Start it again" in (done.detail or "")


async def test_a_job_whose_folder_is_gone_fails_in_a_sentence(house: House) -> None:
    job = await house.store.add_job(
        scope=GUILD,
        requested_by=7,
        channel_id=8,
        base_model="small",
        directory=str(house.root / "gone"),
    )
    async with house.manager:
        done = await house.ended(job)
    assert done.state is JobState.FAILED
    assert "The model that was in service stays." in (done.detail or "")


async def test_a_checkpoint_that_was_damaged_is_not_put_into_service(house: House) -> None:
    """What the child left is verified again before it is moved."""

    async def damage(update: JobUpdate) -> None:
        folder = Path(update.job.directory) / "checkpoint"
        if update.event and folder.exists():
            (folder / "config.json").write_text("{}")

    house.on_event = damage
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.FAILED
    assert "config.json" in (done.detail or "")
    assert house.promoted == []
    with pytest.raises(CorruptCheckpoint):
        verify(Path(done.directory) / "checkpoint")

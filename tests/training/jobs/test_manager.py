"""The life of a training job: real store, real child processes, each end that it can come to.

Most children are `scripted_run.py`, a process that speaks as a run does and is there in a moment;
the last tests lead the real one through the same life, with a base that learns nothing (it says
one sentence to everybody and the learning rate is 0). What the composition root hands in is what
the tests decide.
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
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.errors import StoreError
from core.records import (
    GoldenKind,
    GoldenQuestion,
    JobState,
    NewExample,
    ReviewStatus,
    TrainingJob,
)
from data.storage.storage import Storage
from data.storage.tables.consents import Consents
from data.storage.tables.jobs import Jobs
from i18n.phrase import Phrase
from model.convert.adapter_folder import validate_model
from model.errors import LoadFailed
from model.registry import ModelOption
from tests.databases import open_empty
from tests.model_folders import make_model_folder
from training.checkpoints import remove_checkpoint, verify
from training.config import TrainingConfig
from training.errors import CorruptCheckpoint, EmptyDataset, JobAlreadyOpen
from training.jobs.events import (
    Checking,
    Event,
    Finished,
    Loading,
    Lowered,
    Preparing,
    Saved,
    Started,
    Step,
)
from training.jobs.folder import CONFIG_FILE, STEPS_DIR, latest_saved_step
from training.jobs.manager import TrainingLimits, TrainingManager
from training.jobs.outcome import MAX_ATTEMPTS
from training.jobs.process import TrainingProcess
from training.jobs.queue import JobUpdate
from training.shared_bases import iter_shared_bases

GUILD, OTHER, THIRD = 1, 2, 3
HAS_PROC = Path("/proc/self/environ").exists()
ENDLESS = 1_000_000
"""Steps of a run that the test ends in another way."""
SCRIPTED = (sys.executable, str(Path(__file__).with_name("scripted_run.py")))
STAYS = "The model in service stays the same."


class House:
    """A manager between a store and a composition root that writes down what it is told."""

    def __init__(
        self,
        storage: Storage,
        root: Path,
        base: Path,
        launcher: tuple[str, ...] = SCRIPTED,
        limits: TrainingLimits | None = None,
    ) -> None:
        self.storage = storage
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
        self.kept: list[Path] = []
        self.patience_s = 180.0
        self.manager = TrainingManager(
            storage,
            root / "jobs",
            root / "checkpoints",
            promote=self.promote,
            on_update=self.hear,
            apply_retention=self.make_room,
            limits=limits
            or TrainingLimits(launch=partial(TrainingProcess.launch, launcher=launcher)),
        )

    def script(self, *lines: str) -> None:
        (self.root / "script.txt").write_text("\n".join(lines))

    async def make_room(self, folder: Path) -> None:
        self.kept.append(folder)

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
        async with asyncio.timeout(self.patience_s):
            return await self.manager.wait(job.id)

    def states(self, job: TrainingJob) -> list[JobState]:
        return [one.job.state for one in self.updates if one.job.id == job.id and not one.event]

    async def teach(self, scope: int, user: str, bot: str) -> None:
        await self.storage.examples.add(NewExample(scope, user, bot, 7, "teach"))

    def child(self) -> int:
        """The process id of the run under way."""
        [run] = self.manager._runs.values()
        assert isinstance(run._child, TrainingProcess)
        return run._child.pid

    async def until(self, job: TrainingJob, state: JobState) -> TrainingJob:
        async with asyncio.timeout(self.patience_s):
            return await self.manager._queue.wait_until(job.id, lambda one: one.state is state)

    def events(self, kind: type[Event]) -> list[Event]:
        return [one.event for one in self.updates if isinstance(one.event, kind)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("base") / "small", says="quite well thanks")


@asynccontextmanager
async def open_house(
    root: Path, base: Path, launcher: tuple[str, ...] = SCRIPTED
) -> AsyncIterator[House]:
    async with open_empty(root / "bot.sqlite3") as storage:
        for scope in (GUILD, OTHER):
            await storage.examples.add(NewExample(scope, "hello", "hi", 7, "teach"))
        yield House(storage, root, base, launcher)


@pytest.fixture
async def house(tmp_path: Path, base: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, base) as house:
        yield house


@pytest.fixture
async def real_house(tmp_path: Path, base: Path) -> AsyncIterator[House]:
    """The same with real training processes."""
    async with open_house(tmp_path, base, launcher=()) as house:
        yield house


def once_running(act: Callable[[], Awaitable[object]]) -> Callable[[JobUpdate], Awaitable[None]]:
    async def hear(update: JobUpdate) -> None:
        if isinstance(update.event, Started):
            await act()

    return hear


def read(job: TrainingJob, name: str) -> str:
    return (Path(job.directory) / name).read_text(encoding="utf-8")


def left_in(job: TrainingJob) -> set[str]:
    return {path.name for path in Path(job.directory).iterdir()}


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


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


async def steps_of(house: House, runs: int) -> None:
    """Return once so many endless runs have taken their step."""
    reached = asyncio.Event()

    async def count(_: JobUpdate) -> None:
        if len(house.events(Step)) >= runs:
            reached.set()

    house.on_event = count
    async with asyncio.timeout(60):
        while len(house.events(Step)) < runs:
            await reached.wait()


async def test_jobs_of_two_servers_go_on_side_by_side(house: House) -> None:
    launch = house.manager._limits.launch
    limits = TrainingLimits(launch=launch, runs=2)
    side = House(house.storage, house.root, Path(house.base.source), limits=limits)
    side.script("endless")
    await side.teach(THIRD, "hello", "hi")
    async with side.manager:
        jobs = [await side.submit(scope) for scope in (GUILD, OTHER, THIRD)]
        await steps_of(side, 2)
        third = await side.storage.jobs.get(jobs[2].id)
        assert third is not None
        assert third.state is JobState.QUEUED, "two is the limit"
        side.script("finish")
        assert await side.manager.cancel(jobs[0].id)
        assert (await side.ended(jobs[2])).state is JobState.PROMOTED
        assert (await side.storage.jobs.get(jobs[1].id) or jobs[1]).state is JobState.RUNNING
        side.manager.hold()
        await side.manager.pause(jobs[1].id)
        await side.until(jobs[1], JobState.PAUSED)
    assert read(jobs[1], "told").split() == ["hold", "pause"]


async def test_the_bot_stops_while_several_jobs_run(house: House) -> None:
    limits = TrainingLimits(launch=house.manager._limits.launch, runs=3)
    side = House(house.storage, house.root, Path(house.base.source), limits=limits)
    side.script("endless")
    async with side.manager:
        jobs = [await side.submit(scope) for scope in (GUILD, OTHER)]
        await steps_of(side, 2)
    for job in jobs:
        assert (await side.storage.jobs.get(job.id) or job).state is JobState.QUEUED
        assert latest_saved_step(Path(job.directory)) is not None


async def test_servers_take_turns(house: House) -> None:
    """Who was just served waits for those who were not, also with an older job."""
    house.script("endless", "finish")
    await house.teach(THIRD, "hello", "hi")
    async with house.manager:
        first = await house.submit(GUILD)
        await house.running()
        others = [await house.submit(scope) for scope in (OTHER, THIRD)]
        house.script("finish")
        async with house.manager._deploying:  # the queue stays where it is meanwhile
            assert await house.manager.pause(first.id)
            await house.until(first, JobState.PAUSED)
            assert await house.manager.resume(first.id)
        for job in (first, *others):
            assert (await house.ended(job)).state is JobState.PROMOTED
    order = [one.job.id for one in house.updates if one.job.state is JobState.PROMOTED]
    assert order == [others[0].id, others[1].id, first.id]


async def test_two_at_once_in_one_server_are_one_job(house: House) -> None:
    async with house.manager:
        results = await asyncio.gather(house.submit(), house.submit(), return_exceptions=True)
        [refused] = [one for one in results if isinstance(one, Exception)]
        assert isinstance(refused, JobAlreadyOpen)
        assert len(list((house.root / "jobs").iterdir())) == 1


async def test_nothing_was_taught(house: House) -> None:
    async with house.manager:
        with pytest.raises(EmptyDataset, match="nothing to learn from"):
            await house.submit(scope=99)
    assert not (house.root / "jobs").exists()


async def test_the_snapshot_cannot_be_written(house: House) -> None:
    (house.root / "jobs").write_text("in the way")
    async with house.manager:
        with pytest.raises(StoreError, match="training job could not be written: Not a directory"):
            await house.submit()
        assert await house.storage.jobs.unfinished() == []


async def test_the_checkpoint_cannot_be_put_into_service(house: House) -> None:
    house.refusal = LoadFailed("The weights are too heavy.")
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.REJECTED
    assert done.detail == (
        "**small-1** could not be put into service. The weights are too heavy. "
        "The model in service stays the same."
    )
    verify(house.root / "checkpoints" / str(GUILD) / "small-1")


async def test_a_checkpoint_that_fails_its_checks_is_kept_but_not_promoted(house: House) -> None:
    house.script("reject It had no answer to “hello”.")
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.REJECTED
    assert house.promoted == []
    assert done.detail == (
        "**small-1** did not pass its checks. It had no answer to “hello”. "
        f"{STAYS} `/model use small-1` tries it anyway."
    )
    assert house.kept == [house.root / "checkpoints" / str(GUILD) / "small-1"]
    verify(house.kept[0])


async def test_what_the_run_says_of_its_failure_is_told(house: House) -> None:
    house.script("fail The loss became NaN.")
    async with house.manager:
        done = await house.ended(await house.submit())
        assert not await house.manager.resume(done.id)
    assert done.state is JobState.FAILED
    assert done.detail == f"The loss became NaN. {STAYS}"


async def test_a_full_disk_interrupts_and_the_job_goes_on_when_asked(house: House) -> None:
    house.script("full The disk is full.", "finish")
    async with house.manager:
        job = await house.submit()
        done = await house.ended(job)
        assert done.state is JobState.INTERRUPTED
        assert done.detail == (
            "The disk is full. What was learned up to step 3 is kept: Resume continues from there. "
            f"{STAYS}"
        )
        assert await house.manager.resume(job.id)
        assert (await house.until(job, JobState.PROMOTED)).checkpoint == "small-1"
    assert [one.resumed_from for one in house.events(Started)] == [0, 3]
    assert not (Path(job.directory) / STEPS_DIR).exists()


async def test_an_interrupted_job_keeps_the_name_of_its_checkpoint(house: House) -> None:
    """What another job made meanwhile is not taken for its own."""
    house.script("full The disk is full.", "finish")
    async with house.manager:
        first = await house.ended(await house.submit())
        house.script("finish")
        second = await house.ended(await house.submit())
        assert second.checkpoint == "small-2"
        assert await house.manager.resume(first.id)
        assert (await house.until(first, JobState.PROMOTED)).checkpoint == "small-1"
    assert [one.resumed_from for one in house.events(Started)] == [0, 0, 3]


async def test_an_interrupted_job_does_not_go_on_beside_another(house: House) -> None:
    house.script("full The disk is full.", "endless")
    async with house.manager:
        first = await house.ended(await house.submit())
        house.script("endless")
        second = await house.submit()
        with pytest.raises(JobAlreadyOpen):
            await house.manager.resume(first.id)
        await house.manager.cancel(second.id)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send")
async def test_a_killed_run_goes_on_where_it_was_saved_with_smaller_batches(house: House) -> None:
    house.script("die 3", "finish")
    async with house.manager:
        job = await house.submit()
        done = await house.ended(job)
    assert done.state is JobState.PROMOTED
    assert [(one.resumed_from, one.batch_size, one.gradient_accumulation)
            for one in house.events(Started)] == [(0, 8, 1), (2, 4, 2)]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send")
async def test_a_run_that_is_killed_again_and_again_is_given_up(house: House) -> None:
    house.script("die 1")
    async with house.manager:
        job, other = await house.submit(), await house.submit(OTHER)
        done = await house.ended(job)
        assert done.state is JobState.INTERRUPTED
        assert done.detail == (
            "The training was started 3 times and made no progress "
            "(signal 9; most often because memory ran out). "
            f"Nothing was saved, so Resume starts over. {STAYS}"
        )
        house.script("finish")
        assert (await house.ended(other)).state is JobState.PROMOTED
        assert await house.manager.resume(job.id)
        await house.until(job, JobState.PROMOTED)
    assert len([one for one in house.updates if one.job.id == job.id and one.event]) >= MAX_ATTEMPTS


async def test_a_run_that_loses_its_machine_goes_on_with_the_same_batches(house: House) -> None:
    house.script("lost", "finish")
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.PROMOTED
    assert [one.batch_size for one in house.events(Started)] == [8, 8]


async def test_a_run_that_loses_every_machine_is_given_up_in_a_sentence(house: House) -> None:
    house.script("lost")
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.INTERRUPTED
    assert done.detail == (
        "The training was started 3 times, and each time the machine of the cluster on which it "
        f"ran was lost. Nothing was saved, so Resume starts over. {STAYS}"
    )


async def test_a_run_that_saves_more_each_time_is_not_given_up(house: House) -> None:
    house.script("die 2", "die 2", "die 3", "die 4", "finish")
    async with house.manager:
        assert (await house.ended(await house.submit())).state is JobState.PROMOTED
    assert len(house.events(Saved)) >= MAX_ATTEMPTS


async def test_an_exit_without_a_word_is_told_with_its_status(house: House) -> None:
    house.script("exit 7")
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.INTERRUPTED
    assert "made no progress (exit status 7; see its log)" in (done.detail or "")


async def test_pause_and_resume(house: House) -> None:
    house.script("endless", "finish")
    async with house.manager:
        job, other = await house.submit(), await house.submit(OTHER)
        await house.running()
        assert await house.manager.pause(job.id)
        paused = await house.until(job, JobState.PAUSED)
        assert paused.detail == "Paused after step 1."
        await house.manager.cancel(other.id)
        assert not await house.manager.pause(job.id)
        with pytest.raises(JobAlreadyOpen):
            await house.submit()
    after = House(house.storage, house.root, Path(house.base.source))
    async with after.manager:  # a restart of the bot leaves it paused, and its buttons working
        assert (await after.storage.jobs.get(job.id) or job).state is JobState.PAUSED
        assert await after.manager.resume(job.id)
        assert not await after.manager.resume(job.id)
        assert (await after.ended(job)).state is JobState.PROMOTED
    assert [one.resumed_from for one in after.events(Started)] == [1]


async def test_a_waiting_job_is_paused_and_a_paused_one_cancelled(house: House) -> None:
    house.script("endless")
    async with house.manager:
        first, second = await house.submit(), await house.submit(OTHER)
        await house.running()
        assert await house.manager.pause(second.id)
        assert (await house.until(second, JobState.PAUSED)).detail == "Paused before it began."
        assert await house.manager.cancel(second.id)
        assert (await house.ended(second)).state is JobState.CANCELLED
        await house.manager.cancel(first.id)
        await house.ended(first)
    assert JobState.RUNNING not in house.states(second)


async def test_slow_replies_make_the_run_wait(house: House) -> None:
    house.script("endless")
    async with house.manager:
        house.manager.hold()  # nothing runs: nobody is told
        job = await house.submit()
        await house.running()
        house.manager.hold()
        house.manager._runs[job.id]._end_hold()
        await house.manager.pause(job.id)
        await house.until(job, JobState.PAUSED)
    assert read(job, "told").split() == ["hold", "go", "pause"]


async def test_a_job_is_stopped_running_or_waiting(house: House) -> None:
    house.script("endless")
    async with house.manager:
        first, second = await house.submit(), await house.submit(OTHER)
        await house.running()
        assert await house.manager.cancel(second.id)
        assert (await house.ended(second)).state is JobState.CANCELLED
        assert await house.manager.cancel(first.id)
        done = await house.ended(first)
        assert done.state is JobState.CANCELLED
        assert done.detail == "The training was stopped. The model in service stays the same."
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


async def test_the_bot_stops_while_a_job_runs_and_the_job_goes_on(house: House) -> None:
    house.script("endless", "finish")
    async with house.manager:
        job, waiting = await house.submit(), await house.submit(OTHER)
        await house.running()
        pid = house.child()
    stopped = await house.storage.jobs.get(job.id)
    assert stopped is not None
    assert stopped.state is JobState.QUEUED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

    house.script("endless", "finish")
    after = House(house.storage, house.root, Path(house.base.source))
    async with after.manager:
        assert (await after.ended(job)).state is JobState.PROMOTED
        house.script("finish")
        await after.manager.cancel(waiting.id)
        await after.ended(waiting)
    assert next(one.resumed_from for one in after.events(Started)) == 1


async def test_a_job_that_was_running_when_the_bot_was_killed_goes_on(house: House) -> None:
    async with house.manager:
        pass
    job = await _submitted_elsewhere(house)
    await house.storage.jobs.start(job.id)
    after = House(house.storage, house.root, Path(house.base.source))
    async with after.manager:
        assert (await after.ended(job)).state is JobState.PROMOTED
    assert after.states(job) == [JobState.QUEUED, JobState.RUNNING, JobState.PROMOTED]


async def _submitted_elsewhere(house: House) -> TrainingJob:
    """A job whose manager has gone before it could begin it."""
    idle = House(house.storage, house.root, Path(house.base.source))  # never entered
    return await idle.submit()


@pytest.mark.parametrize("moved", [False, True])
async def test_the_bot_was_killed_when_the_checkpoint_was_there(house: House, moved: bool) -> None:
    """Nothing is trained again, whether or not the checkpoint was in its place already."""
    house.refusal = LoadFailed("killed here")
    async with house.manager:
        job = await house.ended(await house.submit())
    kept = house.root / "checkpoints" / str(GUILD) / "small-1"
    if not moved:
        kept.rename(Path(job.directory) / "checkpoint")
    await house.storage.jobs.set_state(job.id, JobState.RUNNING)
    after = House(house.storage, house.root, Path(house.base.source))
    async with after.manager:
        assert (await after.ended(job)).state is JobState.PROMOTED
    assert after.promoted == [kept]
    assert after.events(Started) == []


async def test_a_job_whose_folder_is_gone_fails_in_a_sentence(house: House) -> None:
    job = await house.storage.jobs.add(
        scope=GUILD,
        requested_by=7,
        channel_id=8,
        base_model="small",
        directory=str(house.root / "gone"),
    )
    async with house.manager:
        done = await house.ended(job)
    assert done.state is JobState.FAILED
    assert "The model in service stays the same." in (done.detail or "")


async def test_a_checkpoint_that_was_damaged_is_not_put_into_service(house: House) -> None:
    """What the child left is verified again before it is moved."""

    async def damage(update: JobUpdate) -> None:
        folder = Path(update.job.directory) / "checkpoint"
        if folder.exists():
            (folder / "config.json").write_text("damaged")

    house.on_event = damage
    async with house.manager:
        done = await house.ended(await house.submit())
    assert done.state is JobState.FAILED
    assert "config.json" in (done.detail or "")
    assert house.promoted == []
    with pytest.raises(CorruptCheckpoint):
        verify(Path(done.directory) / "checkpoint")


async def test_a_run_that_has_not_begun_is_paused_at_once(house: House) -> None:
    house.script("silent", "finish")

    async def pause(update: JobUpdate) -> None:
        if isinstance(update.event, Lowered):
            assert await house.manager.pause(update.job.id)

    house.on_event = pause
    async with house.manager:
        job = await house.submit()
        paused = await house.until(job, JobState.PAUSED)
        assert paused.detail == "Paused before it began."
        assert await house.manager.resume(job.id)
        assert (await house.ended(job)).state is JobState.PROMOTED


@pytest.mark.parametrize("late", [Checking, Finished])
async def test_a_job_whose_steps_are_all_taken_cannot_be_paused(
    house: House, late: type[Event]
) -> None:
    told: list[bool] = []

    async def pause(update: JobUpdate) -> None:
        if isinstance(update.event, late):
            told.append(await house.manager.pause(update.job.id))

    house.on_event = pause
    async with house.manager:
        assert (await house.ended(await house.submit())).state is JobState.PROMOTED
    assert told == [False]


async def test_a_job_that_is_cancelled_at_its_end_leaves_nothing_but_its_log(
    house: House,
) -> None:
    async def cancel(update: JobUpdate) -> None:
        if isinstance(update.event, Finished):
            assert await house.manager.cancel(update.job.id)

    house.on_event = cancel
    async with house.manager:
        job = await house.submit()
        assert (await house.ended(job)).state is JobState.CANCELLED
    assert house.promoted == house.kept == []
    assert not list((house.root / "checkpoints").rglob("manifest.json"))
    assert left_in(job) == {"config.json", "log.txt"}


async def test_a_job_whose_checkpoint_goes_into_service_cannot_be_stopped_or_paused(
    house: House,
) -> None:
    told: list[bool] = []
    promote = house.promote

    async def press(job: TrainingJob, folder: Path) -> None:
        told.append(await house.manager.cancel(job.id))
        told.append(await house.manager.pause(job.id))
        await promote(job, folder)

    house.manager._promotion._promote = press
    async with house.manager:
        job = await house.submit()
        assert (await house.ended(job)).state is JobState.PROMOTED
        assert not await house.manager.cancel(job.id)
        assert not await house.manager.pause(job.id)
    assert told == [False, False]


@pytest.mark.parametrize(
    ("most", "usual", "expected"), [(2, None, 2), (4, 1, 1), (1, 3, 1), (None, 3, 3)]
)
async def test_the_limit_of_threads_is_one(
    house: House, most: int | None, usual: int | None, expected: int
) -> None:
    house.manager._limits = TrainingLimits(threads=most)
    house.config = replace(house.config, threads=usual)
    job = await house.submit()
    assert TrainingConfig.load(Path(job.directory) / CONFIG_FILE).threads == expected


async def test_a_name_of_another_model_is_not_given_to_a_checkpoint(house: House) -> None:
    house.manager._snapshots._reserved_names = {"small-1"}
    async with house.manager:
        assert (await house.ended(await house.submit())).checkpoint == "small-2"


async def test_the_data_say_whose_words_they_are(house: House) -> None:
    await house.storage.consents.opt_in(GUILD, 8, 2)
    await house.storage.examples.add(
        NewExample(GUILD, "who?", "me", 99, "liked", asked_by=8, consent_version=1)
    )
    await house.storage.examples.add(
        NewExample(
            GUILD,
            "what?",
            "no",
            99,
            "liked",
            asked_by=8,
            consent_version=1,
            status=ReviewStatus.WAITING,
        )
    )
    async with house.manager:
        job = await house.submit()
        assert json.loads(read(job, "consent.json")) == {"7": None, "8": 2, "99": None}
        done = await house.ended(job)
    assert await house.storage.jobs.trained_on_member(8) == [done]
    assert await house.storage.jobs.sources(job.id) == {7: None, 8: 2, 99: None}
    assert "what?" not in read(job, "dataset.jsonl")


class Killed(Jobs):
    """The bot is killed when it stores a job, or just after that."""

    after = True

    async def add(self, **facts: Any) -> TrainingJob:
        if self.after:
            await super().add(**facts)
        raise asyncio.CancelledError


@pytest.mark.parametrize("after", [True, False])
async def test_a_kill_while_a_job_is_submitted_leaves_no_words_that_nobody_finds(
    house: House, after: bool
) -> None:
    jobs = house.storage.jobs
    house.storage.jobs = Killed(house.storage._db)
    house.storage.jobs.after = after
    dying = House(house.storage, house.root, Path(house.base.source))
    with pytest.raises(asyncio.CancelledError):
        await dying.submit()
    [folder] = (house.root / "jobs").iterdir()
    assert (folder / "dataset.jsonl").exists()
    house.storage.jobs = jobs
    async with House(house.storage, house.root, Path(house.base.source)).manager:
        assert not (folder / "dataset.jsonl").exists()
        assert folder.exists() == after
        found = await jobs.with_member(7)
        assert [one.state for one in found] == [JobState.CANCELLED] * after


async def test_data_are_kept_only_as_long_as_their_job_or_its_checkpoint(house: House) -> None:
    async with house.manager:
        ended = []
        for script in ("exit 7", "fail It failed.", "finish", "endless"):
            house.script(script)
            job = await house.submit()
            if script == "endless":
                await house.manager.cancel(job.id)
            ended.append(await house.ended(job))
        assert [one.state for one in ended] == [
            JobState.INTERRUPTED, JobState.FAILED, JobState.PROMOTED, JobState.CANCELLED,
        ]  # fmt: skip

        def kept() -> list[JobState]:
            return [one.state for one in ended if (Path(one.directory) / "dataset.jsonl").exists()]

        await house.manager.trim()
        assert kept() == [JobState.INTERRUPTED, JobState.PROMOTED]
        await asyncio.to_thread(remove_checkpoint, house.promoted[0])
        await house.manager.trim()
        assert kept() == [JobState.INTERRUPTED]


class TakenBack(Jobs):
    """A member withdraws their consent at the worst moment: when the snapshot is written."""

    async def add(self, **facts: Any) -> TrainingJob:
        await Consents(self._db).opt_out(GUILD, 8)
        return await super().add(**facts)


async def test_what_is_taken_back_while_it_is_frozen_is_not_learned(house: House) -> None:
    await house.storage.consents.opt_in(GUILD, 8, 1)
    await house.storage.examples.add(
        NewExample(GUILD, "who?", "me", 99, "liked", asked_by=8, consent_version=1)
    )
    house.storage.jobs = TakenBack(house.storage._db)
    late = House(house.storage, house.root, Path(house.base.source))
    async with late.manager:
        job = await late.submit()
        done = await late.ended(job)
    assert done.state is JobState.PROMOTED
    assert json.loads(read(job, "consent.json")) == {"7": None}
    [first] = [one for one in await late.storage.jobs.all(GUILD) if one.id != job.id]
    assert first.state is JobState.CANCELLED
    assert not (Path(first.directory) / "dataset.jsonl").exists()
    assert await late.storage.jobs.sources(first.id) == {}


async def test_what_was_collected_is_not_learned_where_that_is_switched_off(house: House) -> None:
    await house.storage.consents.opt_in(GUILD, 8, 1)
    await house.storage.examples.add(
        NewExample(GUILD, "who?", "me", 8, "chat", asked_by=8, consent_version=1)
    )
    house.storage.examples._include_collected = False
    job = await house.submit()
    assert "who?" not in read(job, "dataset.jsonl")
    assert json.loads(read(job, "consent.json")) == {"7": None}


async def test_what_changed_in_the_data_is_counted(house: House) -> None:
    async with house.manager:
        await house.ended(await house.submit())
        await house.teach(GUILD, "who?", "me")
        house.config = replace(house.config, serving=str(house.promoted[0]))
        job = await house.submit()
        await house.ended(job)
    assert json.loads(read(job, "changes.json")) == {"added": 1, "removed": 0, "same": 1}


async def test_what_came_of_a_job_is_told_in_other_languages_too(house: House) -> None:
    house.script("exit 7")
    async with house.manager:
        job = await house.submit()
        await house.ended(job)
    done = await house.storage.jobs.get(job.id)
    assert done is not None
    assert isinstance(done.detail, Phrase)
    assert done.detail.translate_to("ja") == (
        "学習を3回始めましたが、先に進みませんでした（終了ステータス7、ログを見てください）。"
        "保存されたものはありません。「再開」を押すと最初からやり直します。"
        "これまでのモデルがそのまま答えます。"
    )


# --- the real process ----------------------------------------------------------------------------


async def test_a_job_from_the_question_to_service(
    real_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = real_house
    monkeypatch.setenv("DISCORD_TOKEN", "secret")
    monkeypatch.setenv("DATABASE_KEY", "secret")
    monkeypatch.setenv("KNOWN", "to all")
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):  # of a launcher of the bot
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
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
    assert house.kept == house.promoted
    assert not (Path(job.directory) / STEPS_DIR).exists()
    assert house.promoted == [house.root / "checkpoints" / str(GUILD) / "small-1"]
    assert verify(house.promoted[0]).settings["learning_rate"] == 0.0
    assert verify(house.promoted[0]).consent == {"7": None}
    assert [manifest.name for _, manifest in house.manager.checkpoints(GUILD)] == ["small-1"]
    assert house.manager.checkpoints(OTHER) == []
    events = [one.event for one in house.updates if one.event]
    assert [type(one) for one in events[:2]] == [Preparing, Started]
    assert isinstance(events[-1], Loading)
    assert any(isinstance(one, Step) for one in events)
    assert bool(seen) is HAS_PROC
    assert all(b"KNOWN=to all" in one and b"secret" not in one for one in seen)
    assert all(b"CUDA_VISIBLE_DEVICES=0" in one for one in seen)
    rows = [json.loads(line) for line in read(job, "dataset.jsonl").splitlines()]
    assert rows == [{"user": "Hello", "bot": "Good day."}, {"user": "who?", "bot": "me"}]


@pytest.mark.slow
async def test_a_lost_golden_question_keeps_the_model_in_service(
    real_house: House, tmp_path: Path
) -> None:
    house, golden = real_house, real_house.storage.golden
    rude = make_model_folder(tmp_path / "rude", says="go away")
    house.config = replace(house.config, serving=str(rude))
    question = GoldenQuestion(0, GUILD, "How are you?", GoldenKind.CONTAIN, "away", 3, 7)
    frozen = await golden.add(question)
    assert frozen is not None
    async with house.manager:
        job = await house.submit()
        await golden.add(replace(question, expected="go"))  # of no concern to this job
        done = await house.ended(job)
    assert done.state is JobState.REJECTED
    assert done.detail == (
        "**small-1** did not pass its checks. It fails 1 golden question that the model in service "
        "passes; asked “How are you?”, it should contain “away”, and said “quite well thanks”. "
        f"{STAYS} An administrator may overrule that with `/model use small-1`."
    )
    assert house.promoted == []
    scores = await golden.scores(GUILD, "small-1")
    assert {one: (score.alone, score.in_talk) for one, score in scores.items()} == {
        frozen.id: (0, 0)
    }


@pytest.mark.slow
async def test_two_servers_share_the_base_of_what_they_learned(real_house: House) -> None:
    house = real_house
    house.config = replace(house.config, method="lora", base_name="small")
    await house.teach(OTHER, "hello", "Good day.")
    async with house.manager:
        for scope in (GUILD, OTHER):
            done = await house.ended(await house.submit(scope))
            assert done.state is JobState.PROMOTED, done.detail
    checkpoints = house.root / "checkpoints"
    assert house.promoted == [checkpoints / str(one) / "small-1" for one in (GUILD, OTHER)]
    [(shared, _)] = iter_shared_bases(checkpoints)
    weights = verify(shared).files["model.safetensors"]["sha256"]
    for folder in house.promoted:
        manifest = verify(folder)
        assert manifest.adapter == {"base_sha256": weights, "rank": house.config.lora_rank}
        assert "model.safetensors" not in manifest.files
        validate_model(folder, folder.name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send")
async def test_the_real_run_is_paused_and_killed_and_comes_to_its_end(real_house: House) -> None:
    """Paused between two steps, killed in its second life, it still learns every step once."""
    house = real_house

    async def disturb(update: JobUpdate) -> None:
        if isinstance(update.event, Step) and len(house.events(Started)) == 1:
            await house.manager.pause(update.job.id)
        if isinstance(update.event, Step) and len(house.events(Started)) == 2:
            os.kill(house.child(), signal.SIGKILL)
            house.on_event = None

    house.on_event = disturb
    async with house.manager:
        job = await house.submit(min_steps=60)
        await house.until(job, JobState.PAUSED)
        saved = latest_saved_step(Path(job.directory))
        assert saved is not None
        assert await house.manager.resume(job.id)
        done = await house.ended(job)
    assert done.state is JobState.PROMOTED, done.detail
    assert [one.resumed_from for one in house.events(Started)] == [0, saved.step, saved.step]
    assert len(house.events(Checking)) == 1
    log = json.loads((house.promoted[0] / "history.json").read_text())["log"]
    assert [entry["step"] for entry in log] == list(range(1, 61))
    assert TrainingConfig.load(Path(job.directory) / CONFIG_FILE).batch_size == 4

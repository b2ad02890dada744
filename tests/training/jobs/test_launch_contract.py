"""What a job may rely on of its run, in a process of its own here and on a cluster.

The run is `scripted_run.py`, on the cluster as well: what is tested is the way there and back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.model_folders import make_model_folder
from training.checkpoints import verify
from training.config import TrainingConfig
from training.jobs.events import (
    Checking,
    Event,
    Failed,
    Finished,
    Lowered,
    Paused,
    Rejected,
    Saved,
    Started,
    Step,
)
from training.jobs.folder import CONFIG_FILE, latest_saved_step
from training.jobs.launch import ControlWord, Launch, TrainingChild
from training.jobs.process import TrainingProcess

SCRIPTED = str(Path(__file__).with_name("scripted_run.py"))
Launched = Callable[[str], Launch]
"""Launches runs that do what a script says."""


@pytest.fixture(params=["process", pytest.param("cluster", marks=pytest.mark.cluster)])
def launched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launched]:
    def here(script: str) -> Launch:
        (tmp_path / "script.txt").write_text(script)
        run = (sys.executable, SCRIPTED, str(tmp_path / "script.txt"))
        return partial(TrainingProcess.launch, launcher=run)

    if request.param == "process":
        yield here
        return
    nodes = request.getfixturevalue("one_node")

    def there(script: str) -> Launch:
        (tmp_path / "script.txt").write_text(script)
        follower = (sys.executable, "-m", "training.cluster", "--address", nodes.address)
        cache = ("--cache", str(tmp_path / "node"))
        run = (*follower, *cache, "--", SCRIPTED, str(tmp_path / "script.txt"))
        return partial(TrainingProcess.launch, launcher=run, grace_s=10)

    yield there


@pytest.fixture
def job(tmp_path: Path, base: Path) -> Path:
    job = tmp_path / "jobs" / "one"
    job.mkdir(parents=True)
    (job / "dataset.jsonl").write_text('{"user": "hello", "bot": "hi"}\n')
    TrainingConfig(name="small-1", base=str(base)).save(job / CONFIG_FILE)
    return job


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("base") / "small", says="quite well thanks")


@asynccontextmanager
async def running(launch: Launch, job: Path) -> AsyncIterator[tuple[TrainingChild, list[Event]]]:
    """A run, and its events up to the first step."""
    async with asyncio.timeout(120), launch(job) as child:
        events: list[Event] = []
        async for event in child.events():
            events.append(event)
            if isinstance(event, Step):
                break
        yield child, events


async def rest(child: TrainingChild) -> list[Event]:
    return [event async for event in child.events()]


async def test_a_run_tells_its_events_in_order(launched: Launched, job: Path) -> None:
    events = []
    async with asyncio.timeout(120), launched("finish")(job) as child:
        async for event in child.events():
            events.append(event)
            if isinstance(event, Finished):  # what it speaks of is there
                assert verify(Path(event.checkpoint)).name == "small-1"
    assert [type(one) for one in events] == [Started, Step, Step, Step, Step, Checking, Finished]
    assert child.exit_status == 0
    assert isinstance(events[-1], Finished)
    assert Path(events[-1].checkpoint) == job / "checkpoint"


async def test_a_paused_run_goes_on_where_it_was_saved(launched: Launched, job: Path) -> None:
    async with running(launched("endless\nfinish"), job) as (child, _):
        child.send("pause")
        told = []
        async for event in child.events():
            told.append(event)
            if isinstance(event, Saved):
                saved = latest_saved_step(job)
                assert saved is not None
                assert saved.step == event.step
    assert told == [Saved(1), Paused(1)]
    assert child.exit_status == 0
    async with running(launched("finish"), job) as (again, events):
        await rest(again)
    assert isinstance(events[0], Started)
    assert events[0].resumed_from == 1


async def test_a_run_hears_every_word(launched: Launched, job: Path) -> None:
    words: list[ControlWord] = [*["hold", "go"] * 20, "pause"]  # on a cluster some overtake others
    async with running(launched("endless"), job) as (child, _):
        for word in words:
            child.send(word)
        await rest(child)
    assert (job / "told").read_text().split() == words


async def test_a_killed_run_is_over(launched: Launched, job: Path) -> None:
    async with running(launched("endless"), job) as (child, _):
        await child.kill()
        assert await rest(child) == []
    assert child.exit_status not in (0, None)
    child.send("pause")  # nobody hears it


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send")
async def test_a_run_that_the_system_kills_leaves_its_saved_step(
    launched: Launched, job: Path
) -> None:
    async with running(launched("die 3"), job) as (child, _):
        assert (await rest(child))[-1] == Saved(2)
    assert child.exit_status == -9
    saved = latest_saved_step(job)
    assert saved is not None
    assert saved.step == 2


@pytest.mark.parametrize(
    ("script", "last", "status"),
    [
        ("exit 7", Step, 7),
        ("fail It diverged.", Failed, 1),
        ("full The disk is full.", Failed, 1),
        ("reject It is worse.", Rejected, 0),
    ],
)
async def test_a_run_ends_as_it_says(
    launched: Launched, job: Path, script: str, last: type[Event], status: int
) -> None:
    async with running(launched(script), job) as (child, _):
        events = await rest(child)
    assert type(events[-1]) is last
    assert child.exit_status == status
    match events[-1]:
        case Failed(reason, resumable):
            assert (reason, resumable) == (script.partition(" ")[2], script.startswith("full"))
        case Rejected(checkpoint, reason):
            assert reason == "It is worse."
            assert verify(Path(checkpoint))


async def test_smaller_batches_are_remembered(launched: Launched, job: Path) -> None:
    async with asyncio.timeout(120), launched("lower")(job) as child:
        events = await rest(child)
    assert events[0] == Lowered(4, 2)
    config = TrainingConfig.load(job / CONFIG_FILE)
    assert (config.batch_size, config.gradient_accumulation) == (4, 2)

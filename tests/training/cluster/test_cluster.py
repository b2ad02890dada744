"""Training on a real Ray cluster: real runs, real nodes of this machine, and what befalls them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from core.records import JobState, NewExample
from model.convert.adapter_folder import validate_model
from tests.databases import open_empty
from tests.model_folders import make_model_folder
from tests.ray_nodes import Nodes
from tests.training.jobs.test_manager import GUILD, OTHER, SCRIPTED, House
from training.checkpoints import verify
from training.cluster.launch import ClusterLaunch
from training.config import TrainingConfig
from training.jobs.events import (
    Event,
    Lost,
    Preparing,
    Saved,
    Started,
    Step,
    Waiting,
)
from training.jobs.folder import CONFIG_FILE, latest_saved_step
from training.jobs.job_run import JobRun
from training.jobs.manager import TrainingLimits
from training.jobs.process import TrainingProcess
from training.jobs.queue import JobUpdate
from training.shared_bases import iter_shared_bases

pytestmark = pytest.mark.cluster
STEPS = 60
PATIENCE_S = 600.0
"""Ray Train alone takes half a minute to begin, on a machine with nothing else to do."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("base") / "small", says="quite well thanks")


@pytest.fixture
def nodes(ray_head: Nodes, tmp_path: Path) -> Iterator[Nodes]:
    """A head that trains nothing; the machines of a test are gone after it."""
    with ray_head.joined(tmp_path / "node") as nodes:
        yield nodes


@asynccontextmanager
async def open_house(root: Path, base: Path, limits: TrainingLimits) -> AsyncIterator[House]:
    await asyncio.to_thread(root.mkdir, exist_ok=True)
    async with open_empty(root / "bot.sqlite3") as storage:
        for scope in (GUILD, OTHER):
            await storage.examples.add(NewExample(scope, "hello", "hi", 7, "teach"))
        house = House(storage, root, base, limits=limits)
        house.config = replace(house.config, learning_rate=1e-3, save_every_s=0.5)
        house.patience_s = PATIENCE_S
        yield house


def on(nodes: Nodes, runs: int = 1, devices: int = 1) -> TrainingLimits:
    launch = ClusterLaunch(address=nodes.address, cache=str(nodes.cache), devices=devices)
    return TrainingLimits(runs=runs, launch=launch)


def scripted_on(
    nodes: Nodes, runs: int = 1, reach_s: float = PATIENCE_S, answer_s: float = PATIENCE_S
) -> TrainingLimits:
    """Runs that are there in a moment (`scripted_run.py`)."""
    follower = (sys.executable, "-m", "training.cluster", "--address", nodes.address)
    waits = ("--reach-s", str(reach_s), "--quiet-s", "0.1")  # so it asks many times
    cache = ("--cache", str(nodes.cache), *waits, "--answer-s", str(answer_s))
    launcher = (*follower, *cache, "--", SCRIPTED[1], str(nodes.cache.with_name("script.txt")))
    return TrainingLimits(
        runs=runs, launch=partial(TrainingProcess.launch, launcher=launcher, grace_s=10)
    )


def losses(checkpoint: Path) -> list[dict[str, float]]:
    log = json.loads((checkpoint / "history.json").read_text())["log"]
    assert isinstance(log, list)
    return log


async def trained_here(root: Path, base: Path, **config: object) -> Path:
    """The checkpoint of the same job in a process of its own, which may train meanwhile."""
    async with open_house(root, base, TrainingLimits()) as house, house.manager:
        house.config = replace(house.config, **config)
        done = await house.ended(await house.submit(min_steps=STEPS))
        assert done.state is JobState.PROMOTED, done.detail
        return house.promoted[0]


def texts(folder: Path) -> str:
    return "".join(one.read_text() for one in folder.rglob("*.json"))


async def test_a_job_on_a_cluster_is_as_one_here(nodes: Nodes, tmp_path: Path, base: Path) -> None:
    """From the snapshot to service, twice: the second one is compared with the adapter that the
    first one made, and both rest on one shared base."""
    lora = {"method": "lora", "base_name": "small"}
    here = asyncio.create_task(trained_here(tmp_path / "here", base, **lora))
    await asyncio.to_thread(nodes.add, 1)
    async with open_house(tmp_path / "there", base, on(nodes)) as house, house.manager:
        house.config = replace(house.config, **lora)
        done = await house.ended(await house.submit(min_steps=STEPS))
        assert done.state is JobState.PROMOTED, done.detail
        house.config = replace(house.config, serving=str(house.promoted[0]))
        job = await house.submit(min_steps=STEPS)
        done = await house.ended(job)
        assert done.state is JobState.PROMOTED, done.detail
    first, second = house.promoted
    assert losses(first) == losses(second) == losses(await here)
    assert [type(one) for one in (one.event for one in house.updates) if one][:2] == [
        Preparing, Started,
    ]  # fmt: skip
    [(shared, _)] = iter_shared_bases(house.root / "checkpoints")
    for folder in (first, second):
        validate_model(folder, folder.name)
        manifest = verify(folder)
        assert manifest.base == str(base)
        settings = json.loads(json.dumps(manifest.settings))
        assert settings["shared_bases"] == str(shared.parent)
    assert verify(second).settings["serving"] == str(first)
    report = json.loads((second / "report.json").read_text())
    assert report["losses"]["own"]["serving"] is not None, "it was compared with the adapter"
    assert str(nodes.cache) not in texts(house.root / "checkpoints")
    assert not list((nodes.cache / "runs").iterdir()), "no words stay on the machine"
    stored = TrainingConfig.load(Path(job.directory) / CONFIG_FILE)
    assert stored.base == str(base), "the job itself names this machine's folders"


@pytest.mark.first
async def test_a_lost_node_costs_no_more_than_the_steps_since_the_last_saved(
    nodes: Nodes, tmp_path: Path, base: Path
) -> None:
    here = asyncio.create_task(trained_here(tmp_path / "here", base))
    doomed: list[subprocess.Popen[bytes]] = [await asyncio.to_thread(nodes.add, 1)]
    async with open_house(tmp_path / "there", base, on(nodes)) as house:
        house.config = replace(house.config, save_every_s=0.2)  # 60 steps may take half a second

        async def lose(update: JobUpdate) -> None:
            if isinstance(update.event, Saved) and doomed:
                await asyncio.to_thread(nodes.kill, doomed.pop())
            if isinstance(update.event, Lost):
                await asyncio.to_thread(nodes.add, 1)

        house.on_event = lose
        async with house.manager:
            job = await house.submit(min_steps=STEPS)
            done = await house.ended(job)
    assert done.state is JobState.PROMOTED, done.detail
    assert house.events(Lost) == [Lost()]
    saved = [one.step for one in house.events(Saved)]
    begun, again = (one.resumed_from for one in house.events(Started))
    assert begun == 0 < again
    assert again in saved
    assert [one["step"] for one in losses(house.promoted[0])] == list(range(1, STEPS + 1))
    assert losses(house.promoted[0]) == losses(await here)
    assert TrainingConfig.load(Path(job.directory) / CONFIG_FILE).batch_size == 8, "not lowered"


async def test_steps_that_are_saved_faster_than_they_travel_are_no_loss(
    nodes: Nodes, tmp_path: Path, base: Path
) -> None:
    nodes.add(1)
    async with open_house(tmp_path, base, on(nodes)) as house, house.manager:
        house.config = replace(house.config, save_every_s=0.0)
        done = await house.ended(await house.submit(min_steps=STEPS))
    assert done.state is JobState.PROMOTED, done.detail
    assert house.events(Lost) == []
    assert len(house.events(Saved)) > 1


async def test_jobs_of_two_servers_train_side_by_side_as_far_as_there_is_room(
    nodes: Nodes, tmp_path: Path, base: Path
) -> None:
    nodes.add(1)
    both = asyncio.Event()
    async with open_house(tmp_path, base, scripted_on(nodes, runs=2)) as house:
        house.script("endless")

        async def make_room(update: JobUpdate) -> None:
            if isinstance(update.event, Waiting):
                assert len(house.events(Step)) <= 1
                await asyncio.to_thread(nodes.add, 1)
            if len(house.events(Step)) == 2:
                both.set()

        house.on_event = make_room
        async with house.manager:
            jobs = [await house.submit(scope) for scope in (GUILD, OTHER)]
            async with asyncio.timeout(PATIENCE_S):
                await both.wait()
            for job in jobs:
                assert await house.manager.pause(job.id)
                await house.until(job, JobState.PAUSED)
    assert len(house.events(Waiting)) == 1
    assert house.events(Saved) == [Saved(1), Saved(1)]


async def test_a_run_ends_with_the_bot_that_wanted_it(
    nodes: Nodes, tmp_path: Path, base: Path
) -> None:
    """Whatever kills the follower: the run is over, and its folder gone."""
    nodes.add(1)
    seen: list[psutil.Process] = []
    killed = asyncio.Event()
    runs = nodes.cache / "runs"
    async with open_house(tmp_path, base, scripted_on(nodes)) as house:
        house.script("endless")

        async def kill(update: JobUpdate) -> None:
            if isinstance(update.event, Step) and not seen:
                [folder] = await asyncio.to_thread(_folders, runs)
                seen.extend(_processes_with(str(folder)))
                [run] = house.manager._runs.values()
                psutil.Process(_child(run).pid).kill()
                killed.set()

        house.on_event = kill
        async with house.manager:
            job = await house.submit()
            async with asyncio.timeout(PATIENCE_S):
                await killed.wait()
            assert await house.manager.cancel(job.id)
            await house.ended(job)
            _, alive = await asyncio.to_thread(psutil.wait_procs, seen, timeout=PATIENCE_S)
    assert len(seen) >= 2, "the run and its keeper"
    assert not alive
    assert not await asyncio.to_thread(_folders, runs)


async def test_a_run_whose_actor_dies_goes_on(nodes: Nodes, tmp_path: Path, base: Path) -> None:
    nodes.add(1)
    async with open_house(tmp_path, base, scripted_on(nodes)) as house:
        house.script("endless\nfinish")

        async def kill(update: JobUpdate) -> None:
            if isinstance(update.event, Step) and not house.events(Lost):
                [folder] = await asyncio.to_thread(_folders, nodes.cache / "runs")
                [keeper, *_] = _processes_with(str(folder))
                actor = keeper.parent()
                assert actor is not None
                actor.kill()

        house.on_event = kill
        async with house.manager:
            done = await house.ended(await house.submit())
    assert done.state is JobState.PROMOTED, done.detail
    assert house.events(Lost) == [Lost()]


async def test_a_job_that_waits_survives_the_head(nodes: Nodes, tmp_path: Path, base: Path) -> None:
    """The one that is back knows nothing of it."""
    async with open_house(tmp_path, base, scripted_on(nodes)) as house:

        async def lose_head(update: JobUpdate) -> None:
            if isinstance(update.event, Waiting) and len(house.events(Waiting)) == 1:
                await asyncio.to_thread(nodes.kill, nodes.head)
                await asyncio.to_thread(nodes.restart)
                await asyncio.to_thread(nodes.add, 1)

        house.on_event = lose_head
        async with house.manager:
            done = await house.ended(await house.submit())
    assert done.state is JobState.PROMOTED, done.detail


async def test_a_job_survives_the_head(nodes: Nodes, tmp_path: Path, base: Path) -> None:
    """Once it stays away for longer than a run waits, which is a sentence; once it is back at once,
    and remembers nothing."""
    nodes.add(1)
    async with open_house(tmp_path, base, scripted_on(nodes, reach_s=5.0)) as house:
        house.script("save", "save", "finish")

        async def lose_head(update: JobUpdate) -> None:
            match update.event:
                case Saved(step=1):
                    await asyncio.to_thread(nodes.kill, nodes.head)
                case Saved(step=2):
                    await asyncio.to_thread(nodes.kill, nodes.head)
                    await asyncio.to_thread(nodes.restart)

        house.on_event = lose_head
        async with house.manager:
            job = await house.submit()
            away = await house.ended(job)
            assert away.state is JobState.INTERRUPTED, away.detail
            saved = latest_saved_step(Path(job.directory))
            assert saved is not None
            assert saved.step == 1
            await asyncio.to_thread(nodes.restart)
            assert await house.manager.resume(job.id)
            done = await house.ended(job)
    assert done.state is JobState.PROMOTED, done.detail
    assert f"at {nodes.address} cannot be reached" in str(away.detail)
    assert "check that its head runs" in str(away.detail)
    assert "up to step 1 is kept: Resume continues from there." in str(away.detail)
    assert house.events(Lost) == [Lost(), Lost()]
    begun = [one.resumed_from for one in house.events(Started) if isinstance(one, Started)]
    assert begun == [0, 1, 2]
    verify(house.promoted[0])


async def test_a_machine_that_says_nothing_any_more_is_given_up(
    nodes: Nodes, tmp_path: Path, base: Path
) -> None:
    """Long before the cluster itself does."""
    cut = nodes.add(1)
    async with open_house(tmp_path, base, scripted_on(nodes, answer_s=5.0)) as house:
        house.script("save", "finish")

        async def lose(update: JobUpdate) -> None:
            if isinstance(update.event, Saved):
                await asyncio.to_thread(nodes.freeze, cut)
                await asyncio.to_thread(nodes.add, 1)

        house.on_event = lose
        async with house.manager:
            done = await house.ended(await house.submit())
    assert done.state is JobState.PROMOTED, done.detail
    assert house.events(Lost) == [Lost()]
    assert [one.resumed_from for one in house.events(Started) if isinstance(one, Started)] == [0, 1]


def _folders(root: Path) -> list[Path]:
    return [one for one in root.iterdir() if one.is_dir()]


def _child(run: JobRun) -> TrainingProcess:
    assert isinstance(run._child, TrainingProcess)
    return run._child


def _processes_with(words: str) -> list[psutil.Process]:
    """The oldest first."""
    found = psutil.process_iter(["cmdline", "create_time"])
    ours = [one for one in found if words in " ".join(one.info["cmdline"] or ())]
    return sorted(ours, key=lambda one: float(one.info["create_time"]))


async def test_several_devices_share_a_run(nodes: Nodes, tmp_path: Path, base: Path) -> None:
    """In Ray Train, on two machines: paused, resumed, and ended."""
    for _ in range(2):
        nodes.add(1)
    async with open_house(tmp_path / "there", base, on(nodes, devices=2)) as house:
        house.config = replace(house.config, save_every_s=60.0)  # it is saved when it is paused

        async def pause(update: JobUpdate) -> None:
            if isinstance(update.event, Step) and len(house.events(Started)) == 1:
                await house.manager.pause(update.job.id)

        house.on_event = pause
        async with house.manager:
            job = await house.submit(min_steps=STEPS)
            await house.until(job, JobState.PAUSED)
            assert await house.manager.resume(job.id)
            done = await house.ended(job)
    assert done.state is JobState.PROMOTED, done.detail
    begun: list[Event] = house.events(Started)
    assert [one.processes for one in begun if isinstance(one, Started)] == [2, 2]
    [saved, *_] = house.events(Saved)
    assert isinstance(begun[1], Started)
    assert isinstance(saved, Saved)
    assert begun[1].resumed_from == saved.step
    assert [one["step"] for one in losses(house.promoted[0])] == list(range(1, STEPS + 1))
    verify(house.promoted[0])

"""A cluster whose object store is full, and whose disk has no room for the rest either."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.records import Message, Role
from model.cluster.client import RayBackend
from model.errors import LoadFailed
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.worker.messages import Finished
from tests.builds import put_built_tiny
from tests.model_folders import make_model_folder
from tests.ray_cluster import connected
from tests.ray_nodes import Nodes, running_nodes
from tests.training.conftest import write_job
from training.cluster.launch import ClusterLaunch
from training.config import TrainingConfig
from training.jobs.events import Failed

pytestmark = pytest.mark.cluster

STORE_BYTES = 80_000_000
"""About the least that Ray accepts."""
FULL_DISK = {"local_fs_capacity_threshold": 0.001}
"""The part of the disk above which Ray puts nothing on it."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """One machine that does all."""
    with (
        running_nodes(tmp_path_factory.mktemp("cluster")) as nodes,
        pytest.MonkeyPatch.context() as patch,
    ):
        put_built_tiny(nodes.cache)
        for name, value in nodes.environment.items():
            patch.setenv(name, value)
        options = {"object_store_memory": STORE_BYTES, "_system_config": FULL_DISK}
        nodes.add(2, **options)  # for a replica and for a training
        yield nodes


def enlarge(folder: Path) -> Path:
    """Let a model have more bytes than the object store."""
    for name in ("merges.txt", "vocab.txt"):
        with (folder / name).open("wb") as file:
            file.truncate(50 << 20)
    return folder


async def reply(backend: RayBackend, source: Path) -> str:
    hello, greedy = [Message(Role.USER, "hello")], SamplingParams(temperature=0)
    *_, end = [one async for one in backend.generate(str(source), hello, greedy)]
    assert isinstance(end, Finished)
    return end.text


async def test_a_model_without_room_is_a_sentence_and_the_others_answer(
    nodes: Nodes, tmp_path: Path
) -> None:
    async with connected(nodes) as backend:
        red = make_model_folder(tmp_path / "red", says="red roses")
        await backend.load(str(red))
        enlarge(make_model_folder(red, says="blue violets"))
        new = enlarge(make_model_folder(tmp_path / "new", says="it is here"))
        for folder in (new, red):
            with pytest.raises(LoadFailed, match="The cluster's object store is full: free some"):
                await backend.load(str(folder))
        assert await reply(backend, red) == "red roses", "the version before stays in service"
        assert await reply(backend, EMBEDDED_FOLDER)
        with pytest.raises(LoadFailed, match="The cluster's object store is full: free some"):
            await reply(backend, new)
        late = make_model_folder(tmp_path / "late", says="there is room again")
        assert await reply(backend, late) == "there is room again"
        assert backend.restarts == 0
        assert not backend.quarantined
        [load] = await backend.replica_loads()
        assert load.running == 0


async def test_a_job_without_room_is_a_sentence_and_can_be_resumed(
    nodes: Nodes, tmp_path: Path
) -> None:
    base = make_model_folder(tmp_path / "small", says="hi")
    job = write_job(tmp_path / "job", TrainingConfig(name="small-1", base=str(base)))
    with (job / "more.jsonl").open("wb") as file:
        file.truncate(100 << 20)
    launch = ClusterLaunch(address=nodes.address, cpus=1, cache=str(nodes.cache))
    async with asyncio.timeout(120), launch(job) as child:
        events = [one async for one in child.events()]
    assert isinstance(events[-1], Failed)
    assert "The cluster's object store is full: free some" in events[-1].reason
    assert events[-1].resumable
    assert child.exit_status == 1

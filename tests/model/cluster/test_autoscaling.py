"""Replicas come under load and go when it is quiet, and a reply that one has begun is finished."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from core.records import Message
from core.subprocesses import child_process
from model.cluster.client import RayBackend
from model.cluster.options import Scale
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.messages import Finished, Queued, TextDelta
from tests.fakes import FakeWorker
from tests.model.cluster.replies import HELLO, TINY
from tests.ray_cluster import RayCluster, connected, until

pytestmark = pytest.mark.cluster

BUSY = 2.0
"""Replies for which a replica is enough: four would be too many for one."""
STATES = """
import sys, time
from core.cluster.connection import connect
connect(sys.argv[1])
from ray import serve
while True:
    states = serve.status().applications["gpt2bot"].deployments["Replica"].replica_states
    print(*(f"{name}={count}" for name, count in sorted(states.items())), flush=True)
    time.sleep(0.2)
"""


class HeldWorker(FakeWorker):
    """Begins a reply, and ends it once something is written to the pipe in `folder` that has the
    name of its channel."""

    def __init__(self, _: WorkerSettings, *, embedded: str, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def generate(
        self,
        source: str,
        messages: Sequence[Message],
        params: SamplingParams,
        *,
        channel: int = 0,
        scope: int = 0,
    ) -> AsyncGenerator[Queued | TextDelta | Finished, None]:
        pieces = super().generate(source, messages, params, channel=channel, scope=scope)
        yield await anext(pieces)
        await _until_written(self._folder / str(channel))
        async for piece in pieces:
            yield piece


async def _until_written(pipe: Path) -> None:
    loop, written = asyncio.get_running_loop(), asyncio.Event()
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    loop.add_reader(end, written.set)
    try:
        await written.wait()
    finally:
        loop.remove_reader(end)
        os.close(end)


class HeldReply:
    """A reply that goes on until it is released."""

    def __init__(self, backend: RayBackend, folder: Path, channel: int) -> None:
        self.begun = asyncio.Event()
        self._pipe = folder / str(channel)
        os.mkfifo(self._pipe)
        params = SamplingParams(seed=channel)
        self._stream = backend.generate(TINY, HELLO, params, channel=channel)
        self.text = asyncio.create_task(self._follow())

    async def _follow(self) -> str:
        text = ""
        async for piece in self._stream:
            if isinstance(piece, Finished):
                assert piece.text == text
                return text
            if isinstance(piece, TextDelta):
                text += piece.text
                self.begun.set()
        raise AssertionError("a reply without an end")

    async def release(self) -> None:
        await asyncio.to_thread(self._pipe.write_bytes, b".")


@pytest.fixture
async def backend(
    ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RayBackend]:
    monkeypatch.setenv("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "0.5")
    scale = Scale(
        1, 2, busy=BUSY, drain_s=120.0, look_back_s=2.0, upscale_delay_s=1.0, downscale_delay_s=2.0
    )
    worker = partial(HeldWorker, folder=tmp_path)
    async with connected(ray_cluster, scale, worker=worker) as backend:
        yield backend


@asynccontextmanager
async def states(cluster: RayCluster) -> AsyncIterator[asyncio.StreamReader]:
    """What Serve says of its replicas, again and again."""
    command = (sys.executable, "-c", STATES, cluster.address)
    async with child_process(command, stdout=asyncio.subprocess.PIPE) as child:
        assert child.stdout is not None
        yield child.stdout


async def test_replicas_come_and_go_with_the_load_and_no_reply_is_lost(
    ray_cluster: RayCluster, backend: RayBackend, tmp_path: Path
) -> None:
    def num_replicas() -> int:
        return sum(len(ray_cluster.replicas(node)) for node in ray_cluster.nodes)

    async def running() -> list[int]:
        return [one.running for one in await backend.replica_loads() if one.running]

    async with asyncio.timeout(240), states(ray_cluster) as told:
        assert num_replicas() == 1
        first = [HeldReply(backend, tmp_path, channel) for channel in range(1, 6)]
        await _until_told(told, b"RUNNING=2")
        assert await running() == [5]
        last = HeldReply(backend, tmp_path, 6)
        await last.begun.wait()
        assert sorted(await running()) == [1, 5], "the new one has room"
        for one in first[1:]:  # one reply is left on each
            await one.release()
            await one.text
        await _until_told(told, b"STOPPING=1")
        assert await running() == [1, 1], "both replies go on"
        for one in (first[0], last):
            await one.release()
        assert {await one.text for one in (*first, last)} == {f"you said {HELLO[0].content}"}
        await until(lambda: num_replicas() == 1, "one replica is enough")
    assert not any(one.moves for one in await backend.replica_loads()), "each reply began once"


async def _until_told(told: asyncio.StreamReader, words: bytes) -> None:
    async for line in told:
        if words in line:
            return
    raise AssertionError("Serve says no more")

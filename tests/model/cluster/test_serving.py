"""Replies from replicas: channels keep theirs, models arrive and change, servers stay apart."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from core.cluster.parcels import IN_USE_S
from core.records import Message, Role
from model.cluster.client import RayBackend
from model.cluster.versions import Versions
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.worker.messages import Finished
from tests.model_folders import make_adapter_folder, make_model_folder
from tests.ray_cluster import RayCluster, connected, until, until_all_answer

pytestmark = pytest.mark.cluster

GREEDY = SamplingParams(temperature=0)
RED = " ".join(f"red{n}" for n in range(30))
BLUE = " ".join(f"blue{n}" for n in range(30))
WORDS = ("lake", "friend", "heron", "fish", "rain", "hills", "silver", "quiet", "old", "we")


async def reply(
    backend: RayBackend, source: Path, channel: int = 0, params: SamplingParams = GREEDY
) -> str:
    text = ""
    async with asyncio.timeout(60):
        hello = [Message(Role.USER, "hello")]
        async for piece in backend.generate(str(source), hello, params, channel=channel):
            if isinstance(piece, Finished):
                assert piece.text == text
                return text
            text += getattr(piece, "text", "")
    raise AssertionError("a reply without an end")


@pytest.fixture(scope="module")
async def backend(ray_cluster: RayCluster) -> AsyncIterator[RayBackend]:
    async with connected(ray_cluster, fewest=2) as backend:
        await until_all_answer(backend, 2)
        yield backend


async def test_a_channel_stays_with_the_replica_that_has_read_it(backend: RayBackend) -> None:
    """From its first message on, and when all talk at the same moment."""
    channels = range(1, 21)
    draw = random.Random(0)
    histories: dict[int, list[Message]] = {channel: [] for channel in channels}

    async def say(channel: int) -> None:
        history = histories[channel]
        history.append(Message(Role.USER, " ".join(draw.choices(WORDS, k=8))))
        params = SamplingParams(max_new_tokens=6, seed=len(history))
        stream = backend.generate(str(EMBEDDED_FOLDER), history[-5:], params, channel=channel)
        *_, end = [one async for one in stream]
        assert isinstance(end, Finished)
        history.append(Message(Role.ASSISTANT, end.text))

    before = {one.replica: (one.moves, one.replies) for one in await backend.replica_loads()}
    for _ in range(8):
        await asyncio.gather(*map(say, channels))
    loads = await backend.replica_loads()
    moves = sum(one.moves - before[one.replica][0] for one in loads)
    assert moves <= 0.05 * 7 * len(channels)
    assert all(one.replies - before[one.replica][1] >= 8 * 5 for one in loads)


async def test_a_swap_reaches_all_replicas_and_no_reply_is_mixed_or_lost(
    backend: RayBackend, tmp_path: Path
) -> None:
    folder = make_model_folder(tmp_path / "model", says=RED)
    await backend.load(str(folder))
    make_model_folder(folder, says=BLUE)
    loaded = asyncio.Event()
    texts: list[str] = []

    async def chat(channel: int) -> str:
        while not loaded.is_set():
            texts.append(await reply(backend, folder, channel))
        return await reply(backend, folder, channel)

    chats = [asyncio.create_task(chat(channel)) for channel in range(101, 117)]
    await reply(backend, folder, 1)
    await backend.load(str(folder))
    loaded.set()
    assert set(await asyncio.gather(*chats)) == {BLUE}
    assert set(texts) <= {RED, BLUE}
    assert RED in texts


async def test_adapters_of_several_servers_share_a_base_and_nothing_else(
    backend: RayBackend, tmp_path: Path
) -> None:
    base = make_model_folder(tmp_path / "bases" / "roses", says="red roses are in bloom today")
    says = {"1": "today roses are red", "2": "bloom today in red", "3": "roses in bloom"}
    folders = {
        server: make_adapter_folder(tmp_path / server / "roses-1", base, says=text)
        for server, text in says.items()
    }
    await asyncio.gather(*(backend.load(str(one)) for one in folders.values()))
    servers = list(says) * 8
    texts = await asyncio.gather(
        *(reply(backend, folders[server], 200 + n) for n, server in enumerate(servers))
    )
    assert texts == [says[server] for server in servers]
    assert await reply(backend, base) == "red roses are in bloom today"


async def test_a_model_larger_than_the_object_store_arrives(
    backend: RayBackend, tmp_path: Path
) -> None:
    """What does not fit into its memory goes over the disk."""
    folder = make_model_folder(tmp_path / "large", says="it is here")
    for name in ("merges.txt", "vocab.txt", "spiece.model"):
        with (folder / name).open("wb") as file:
            file.truncate((8 if name == "spiece.model" else 50) << 20)
    await backend.load(str(folder))
    assert await reply(backend, folder) == "it is here"


async def test_a_replica_that_lacks_a_model_is_sent_it_before_it_answers(
    ray_cluster: RayCluster, backend: RayBackend, tmp_path: Path
) -> None:
    """Its worker died, and its disk is empty."""
    folder = make_model_folder(tmp_path / "model", says="sent once more")
    await backend.load(str(folder))

    def workers() -> set[int]:
        found = set()
        for replica in (one for node in ray_cluster.nodes for one in ray_cluster.replicas(node)):
            for child in replica.children():
                with suppress(psutil.Error):  # it has just ended
                    if "spawn_main" in " ".join(child.cmdline()):
                        found.add(child.pid)
        return found

    dead = workers()
    assert len(dead) == 2
    shutil.rmtree(ray_cluster.cache / "parcels")
    for one in dead:
        os.kill(one, signal.SIGKILL)
    await until(lambda: len(workers() - dead) == 2, "other workers")
    texts = [await reply(backend, folder, channel) for channel in range(300, 308)]
    assert set(texts) == {"sent once more"}


async def test_when_caches_are_dropped_a_node_keeps_the_models_in_use_only(
    ray_cluster: RayCluster, backend: RayBackend, tmp_path: Path
) -> None:
    """Somebody wants to be forgotten; a model that the bot has removed may have learned of them."""
    removed, used = (make_model_folder(tmp_path / name, says=name) for name in ("removed", "used"))
    parcels = ray_cluster.cache / "parcels"

    def home(name: str) -> Path:
        return next(one for one in parcels.iterdir() if (one / name).exists())

    await backend.load(str(used))
    digest = (await asyncio.to_thread(Versions().describe, str(removed))).ref.digest
    shutil.copytree(removed, parcels / str(digest) / removed.name)
    for name in (removed.name, used.name):
        long_ago = time.time() - 2 * IN_USE_S
        os.utime(home(name), (long_ago, long_ago))
    await reply(backend, used)
    backend.drop_caches()
    await until(lambda: not (parcels / str(digest)).exists(), "it is removed")
    assert home(used.name)
    assert await reply(backend, used) == "used"


async def test_the_next_bot_finds_the_replicas_and_their_models(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    folder = make_model_folder(tmp_path / "model", says="still here")

    def pids() -> set[int]:
        return {one.pid for node in ray_cluster.nodes for one in ray_cluster.replicas(node)}

    async with connected(ray_cluster, fewest=2) as first:
        await first.load(str(folder))
        await until(lambda: len(pids()) == 2, "two replicas")
        before = pids()
    async with connected(ray_cluster, fewest=2) as second:
        assert await reply(second, folder) == "still here"
        assert pids() == before

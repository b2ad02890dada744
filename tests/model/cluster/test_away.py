"""The whole cluster goes away and comes back; meanwhile a worker on this machine answers.

The head asks for a token, as a real one should.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from model.cluster.client import RayBackend
from model.cluster.fallback import FallbackBackend
from model.cluster.options import GatewayOptions
from model.errors import LoadFailed, WorkerDied
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from tests.builds import BUILT, put_built_tiny
from tests.model.cluster.replies import TINY, Chat, Reply, chats, texts
from tests.model_folders import make_endless_folder
from tests.ray_cluster import connected, until
from tests.ray_nodes import Nodes, running_nodes

pytestmark = pytest.mark.cluster

NUM_CHATS = 3
EARLY: dict[str, Any] = {"silence_s": 4.0, "gone_s": 10.0, "give_up_s": 6.0}
"""A loss is noticed after seconds that a test can wait. What is taken for one too early does no
harm here."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head, and a machine with one processor."""
    with (
        running_nodes(tmp_path_factory.mktemp("cluster"), 0, 1) as nodes,
        pytest.MonkeyPatch.context() as patch,
    ):
        put_built_tiny(nodes.cache)
        for name, value in nodes.environment.items():
            patch.setenv(name, value)
        yield nodes


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_endless_folder(tmp_path_factory.mktemp("models") / "endless"))


@asynccontextmanager
async def with_stand_in(cluster: RayBackend) -> AsyncIterator[FallbackBackend]:
    def make() -> WorkerClient:
        return WorkerClient(WorkerSettings(threads=1, build_cache=BUILT, drain_s=0.1))

    backend = FallbackBackend(cluster, make, TINY)
    try:
        yield backend
    finally:
        await backend.stop()


async def until_answered(by: str, talks: Sequence[Chat]) -> None:
    """Wait until each chat was answered twice by the cluster or by the worker: the first of these
    replies may have begun before."""
    before = [getattr(one, by) for one in talks]
    await until(
        lambda: all(getattr(one, by) >= n + 2 for one, n in zip(talks, before, strict=True)), by
    )


def check(talks: Sequence[Chat], expected: Sequence[str], sentences: int) -> None:
    """Nothing was said twice or mixed, and hardly a reply ended early: those who saw the beginning
    of one when all was lost."""
    for chat, text in zip(talks, expected, strict=True):
        assert chat.texts == {text}
        assert len(chat.sentences) <= sentences, chat.sentences


@pytest.mark.parametrize("token", [None, "0" * 64])
async def test_who_has_not_the_token_is_refused_in_a_sentence(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    """Also where nothing says that a token is wanted."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in nodes.environment:
        monkeypatch.delenv(name)
    if token is not None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    backend = RayBackend(GatewayOptions(nodes.address))
    with pytest.raises(LoadFailed, match="The Ray cluster refused the token: put"):
        await backend.start()
    assert backend.pid is None


async def test_the_network_is_cut_and_comes_back(nodes: Nodes, endless: str) -> None:
    async with connected(nodes, **EARLY) as cluster, with_stand_in(cluster) as backend:
        await cluster.load(endless)
        expected = await texts([Reply(cluster, TINY, n + 1) for n in range(NUM_CHATS)])
        [long] = await texts([Reply(cluster, endless, 9)])

        async def begin() -> Reply:
            reply = Reply(backend, endless, 9)
            await reply.begun.wait()
            return reply

        async def is_lost() -> bool:
            return not any(one.running for one in await cluster.replica_loads())

        cut = await begin()
        nodes.freeze()
        await until(is_lost, "the silence is noticed")
        nodes.thaw()
        assert (await cut.end).text == long, "it went on where it was"

        async with chats(backend, NUM_CHATS) as talks:
            await until_answered("by_cluster", talks)
            cut = await begin()
            nodes.freeze()
            [end] = await asyncio.gather(cut.end, return_exceptions=True)
            assert isinstance(end, WorkerDied), end
            await until_answered("by_worker", talks)
            await until(lambda: not backend.is_available, "the loss is noticed")
            nodes.thaw()
            await until(lambda: backend.is_available, "the cluster is there again")
            await until_answered("by_cluster", talks)
        check(talks, expected, sentences=1)
        assert (await (await begin()).end).text == long, "its model is there again"


async def test_after_a_restart_of_the_head_replicas_answer_again(nodes: Nodes) -> None:
    """Nobody has to do anything but start Ray."""
    async with connected(nodes, **EARLY) as cluster, with_stand_in(cluster) as backend:
        expected = await texts([Reply(cluster, TINY, n + 1) for n in range(NUM_CHATS)])
        async with chats(backend, NUM_CHATS) as talks:
            await until_answered("by_cluster", talks)
            await asyncio.to_thread(nodes.kill, nodes.head)
            await until(lambda: not backend.is_available, "the loss is noticed")
            await until_answered("by_worker", talks)
            assert list(backend.models) == [TINY], "who stands in says so"
            with pytest.raises(LoadFailed, match="cannot be reached"):
                await RayBackend(cluster.options).start()
            with pytest.raises(WorkerDied, match="The operator can read why"):
                await Reply(cluster, TINY, 1).end  # as where no worker is to stand in
            await asyncio.to_thread(nodes.restart)
            await until(lambda: backend.is_available, "the cluster is there again")
            await until_answered("by_cluster", talks)
        check(talks, expected, sentences=1)

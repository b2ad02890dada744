"""While the cluster is away a worker on this machine answers, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.records import Message, Role
from model.cluster.fallback import LOCAL_IDS, FallbackBackend
from model.errors import LoadFailed, WorkerDied
from model.registry import EMBEDDED_FOLDER, EMBEDDED_FOLDER_JA
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished, TextDelta
from tests.builds import BUILT, built
from tests.fakes import FakeWorker
from tests.model.conftest import HELLO

TINY = str(EMBEDDED_FOLDER)
TALK = [*HELLO, Message(Role.ASSISTANT, "hello you"), Message(Role.USER, "how are you?")]
PARAMS = SamplingParams(max_new_tokens=8, seed=3)


class FakeCluster(FakeWorker):
    """A cluster whose replies the test decides, and whether it is there."""

    is_available = True

    async def start_with_backoff(self) -> None:
        pass


@pytest.fixture
async def both() -> AsyncIterator[tuple[FakeCluster, FallbackBackend, list[WorkerClient]]]:
    """The cluster, the backend with a real worker, and the workers that it has made."""
    built(EMBEDDED_FOLDER)
    cluster, made = FakeCluster(), list[WorkerClient]()

    def make() -> WorkerClient:
        made.append(WorkerClient(WorkerSettings(threads=1, build_cache=BUILT, drain_s=0.1)))
        return made[-1]

    backend = FallbackBackend(cluster, make, TINY)
    yield cluster, backend, made
    await backend.stop()


async def reply(backend: FallbackBackend, source: str = TINY) -> Finished:
    return [one async for one in backend.generate(source, HELLO, PARAMS, channel=5)][-1]


async def test_the_cluster_answers_while_it_is_there(both) -> None:
    cluster, backend, made = both
    assert (await reply(backend)).text == "you said hello"
    assert (await backend.load("gpt2")).source == "gpt2"
    assert backend.models == cluster.models
    assert not made


async def test_the_worker_answers_while_it_is_away_and_leaves_when_it_is_back(both) -> None:
    cluster, backend, made = both
    await backend.load("gpt2")
    cluster.is_available = False
    assert "gpt2" not in backend.models
    end = await reply(backend, "gpt2")
    assert end.text
    assert end.request_id >= LOCAL_IDS
    assert list(backend.models) == [TINY]
    assert 0 < await backend.ping() < 5
    assert (await backend.render("gpt2", HELLO, 10)).total_tokens
    cluster.is_available = True
    assert (await reply(backend)).text == "you said hello"
    assert len(made) == 1
    await backend.stop()
    assert made[0].pid is None


async def test_a_reply_that_was_lost_before_it_began_is_given_by_the_worker(both) -> None:
    cluster, backend, made = both
    cluster.failure = WorkerDied("The cluster does not answer.")
    assert (await reply(backend)).text
    assert len(made) == 1


async def test_a_reply_that_was_lost_in_the_middle_ends_with_the_sentence(both) -> None:
    cluster, backend, made = both
    cluster.gate_at = 1
    cluster.gate.clear()
    stream = backend.generate(TINY, HELLO, PARAMS)
    assert isinstance(await anext(stream), TextDelta)
    cluster.failure = WorkerDied("The machine is gone.")
    cluster.gate.set()
    with pytest.raises(WorkerDied, match="The machine is gone"):
        await anext(stream)
    assert not made


async def test_other_failures_are_the_clusters_own(both) -> None:
    cluster, backend, made = both
    cluster.failure = LoadFailed("red is damaged.")
    with pytest.raises(LoadFailed, match="red is damaged"):
        await reply(backend, "red")
    assert not made


async def test_a_stop_reaches_the_one_who_answers(both) -> None:
    cluster, backend, _ = both
    for is_available in (True, False):
        cluster.is_available = is_available
        cluster.gate_at = 1
        cluster.gate.clear()
        params = SamplingParams(max_new_tokens=150, seed=4)
        stream = backend.generate(TINY, TALK, params)
        first = await anext(stream)
        backend.abort(first.request_id)
        cluster.gate.set()
        *_, end = [one async for one in stream]
        assert end.finish_reason == "aborted"


async def test_the_other_embedded_model_stands_in_for_itself(both) -> None:
    cluster, backend, _ = both
    built(EMBEDDED_FOLDER_JA)
    cluster.is_available = False
    assert not (await reply(backend, str(EMBEDDED_FOLDER_JA))).text.isascii()

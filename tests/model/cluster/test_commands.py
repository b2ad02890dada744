"""The gateway's commands, with replicas whose answers the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.tasks import BackgroundTasks
from model.cluster import commands as commands_module
from model.cluster.commands import Commands
from model.cluster.current_models import CurrentModels
from model.cluster.messages import Began, Crashed, Loaded, ReplyRequest
from model.cluster.replicas import Replicas
from model.cluster.retry import LOST, ReplicaLost
from model.registry import EMBEDDED_FOLDER
from model.sampling import FinishReason, SamplingParams
from model.worker.messages import (
    Abort,
    AskLoads,
    DropCaches,
    Failed,
    Finished,
    Generate,
    LoadModel,
    ModelLoaded,
    Prefetch,
    ReplicaLoads,
    TextDelta,
    WorkerEvent,
)
from tests.fakes import facts
from tests.model.conftest import HELLO
from tests.model_folders import make_model_folder

TINY = str(EMBEDDED_FOLDER)
Script = Callable[[ReplyRequest, int], AsyncGenerator[tuple[Any, ...], None]]


class ScriptedReplicas(Replicas):
    """`script` gives the batches of each request and its number, from 0."""

    def __init__(self, script: Script) -> None:
        super().__init__(_NoHandle())
        self.script = script
        self.requests: list[ReplyRequest] = []
        self.affinities: list[str] = []
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.asked = asyncio.Event()

    async def stream(
        self, method: str, *args: Any, affinity: str = ""
    ) -> AsyncGenerator[Any, None]:
        self.requests.append(args[0])
        self.affinities.append(affinity)
        async for batch in self.script(args[0], len(self.requests) - 1):
            yield batch

    async def one(
        self, method: str, *args: Any, affinity: str = "", timeout_s: float | None = None
    ) -> Any:
        self.told.append((method, args))
        self.affinities.append(affinity)
        self.asked.set()

    async def all(self, method: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        self.told.append((method, args))
        return [Loaded("a", facts("/on/the/node")), Loaded("b", facts("/on/the/node"))]


class _NoHandle:
    def options(self, **_: object) -> _NoHandle:
        return self


class Side:
    """The commands, and the events that they send."""

    def __init__(self, script: Script, tasks: BackgroundTasks) -> None:
        self.replicas = ScriptedReplicas(script)
        models = CurrentModels(self.replicas, tasks, TINY)
        self.commands = Commands(self._send, self.replicas, models, tasks)
        self._events: asyncio.Queue[WorkerEvent] = asyncio.Queue()

    def _send(self, event: WorkerEvent) -> None:
        self._events.put_nowait(event)

    async def next(self) -> WorkerEvent:
        async with asyncio.timeout(10):
            return await self._events.get()

    async def reply(self, command: Generate) -> list[WorkerEvent]:
        self.commands.begin(command)
        events = [await self.next()]
        while isinstance(events[-1], TextDelta):
            events.append(await self.next())
        return events


@pytest.fixture
async def tasks() -> AsyncIterator[BackgroundTasks]:
    async with BackgroundTasks() as tasks:
        yield tasks


def ask(number: int = 7, source: str = TINY, seed: int | None = 3, channel: int = 5) -> Generate:
    params = SamplingParams(seed=seed)
    return Generate(number, source, tuple(HELLO), params, channel=channel)


def finished(text: str, seed: int = 3) -> Finished:
    return Finished(99, text, FinishReason.END, 3, 2, seed, 0.1)


async def whole(request: ReplyRequest, number: int) -> AsyncGenerator[tuple[Any, ...], None]:
    yield (Began(f"replica-{number}"),)
    yield ()
    yield (TextDelta(99, "so "), TextDelta(99, "it is"), finished("so it is"))


async def test_a_reply_has_the_number_of_its_request(tasks: BackgroundTasks) -> None:
    events = await Side(whole, tasks).reply(ask())
    assert [one.request_id for one in events] == [7, 7, 7]
    assert events[-1].text == "so it is"


async def lost_once(request: ReplyRequest, number: int) -> AsyncGenerator[tuple[Any, ...], None]:
    if number == 0:
        yield (Began("replica-0"), TextDelta(99, "so "))
        raise ReplicaLost("gone")
    async for batch in whole(request, number):
        yield batch


async def test_a_lost_reply_goes_on_elsewhere_with_the_same_seed(tasks: BackgroundTasks) -> None:
    side = Side(lost_once, tasks)
    events = await side.reply(ask(seed=None))
    assert "".join(one.text for one in events[:-1]) == events[-1].text == "so it is"
    first, second = side.replicas.requests
    assert first.params.seed is not None
    assert first.params == second.params
    assert first.key != second.key
    assert side.replicas.affinities == ["5-0", "5-1"]
    await side.reply(ask(8))
    assert side.replicas.affinities[-1] == "5-1"  # it has been read there
    side.commands.begin(AskLoads(9))
    loads = await side.next()
    assert isinstance(loads, ReplicaLoads)
    counted = {one.replica: (one.hits, one.moves, one.replies) for one in loads.loads}
    assert counted == {"replica-0": (0, 0, 0), "replica-1": (0, 1, 1), "replica-2": (0, 1, 1)}


async def test_a_reply_keeps_the_version_that_it_began_with(
    tasks: BackgroundTasks, tmp_path: Path
) -> None:
    folder = make_model_folder(tmp_path / "red", says="red roses")
    began, swapped = asyncio.Event(), asyncio.Event()

    async def script(request: ReplyRequest, number: int) -> AsyncGenerator[Any, None]:
        if number == 0:
            began.set()
            await swapped.wait()
            raise ReplicaLost("gone")
        async for batch in whole(request, number):
            yield batch

    side = Side(script, tasks)
    side.commands.begin(LoadModel(1, str(folder)))
    loaded = await side.next()
    assert isinstance(loaded, ModelLoaded)
    assert loaded.info.source == str(folder)
    side.commands.begin(ask(2, str(folder)))
    await began.wait()
    make_model_folder(folder, says="blue violets")
    side.commands.begin(LoadModel(3, str(folder)))
    assert isinstance(await side.next(), ModelLoaded)
    swapped.set()
    while not isinstance(await side.next(), Finished):
        pass
    await side.reply(ask(4, str(folder)))
    first, again, later = (one.model for one in side.replicas.requests)
    assert first == again != later


async def stuck(request: ReplyRequest, number: int) -> AsyncGenerator[tuple[Any, ...], None]:
    yield (Began("replica-0"), TextDelta(99, "so "))
    await asyncio.Event().wait()


async def test_a_stop_is_told_to_all_and_needs_no_answer(
    tasks: BackgroundTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "ABORT_TIMEOUT_S", 0.05)
    side = Side(stuck, tasks)
    side.commands.begin(ask())
    assert (await side.next()).text == "so "
    side.commands.begin(Abort(7))
    side.commands.begin(Abort(7))
    end = await side.next()
    assert isinstance(end, Finished)
    assert (end.text, end.finish_reason) == ("so ", FinishReason.ABORTED)
    assert side.replicas.told == [("abort", (side.replicas.requests[0].key,))]


async def test_a_stopped_reply_does_not_begin_again(tasks: BackgroundTasks) -> None:
    release = asyncio.Event()

    async def script(request: ReplyRequest, number: int) -> AsyncGenerator[Any, None]:
        yield (Began("replica-0"), TextDelta(99, "so "))
        await release.wait()
        raise ReplicaLost("gone")

    side = Side(script, tasks)
    side.commands.begin(ask())
    await side.next()
    side.commands.begin(Abort(7))
    release.set()
    assert (await side.next()).finish_reason is FinishReason.ABORTED
    assert len(side.replicas.requests) == 1


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (Failed(99, "No."), Failed(7, "No.")),
        (Failed(99, "No.", during_load=True), Failed(7, "No.", during_load=True)),
        (Crashed("It died."), Failed(7, "It died.", died=True)),
        (KeyError(), Failed(7, "The connection to the cluster failed (KeyError).", died=True)),
    ],
)
async def test_a_failure_ends_the_request(tasks: BackgroundTasks, answer, end) -> None:
    async def script(request: ReplyRequest, number: int) -> AsyncGenerator[Any, None]:
        if isinstance(answer, Exception):
            raise answer
        yield (Began("replica-0"), answer)

    assert await Side(script, tasks).reply(ask()) == [end]


async def test_another_text_is_no_reply(tasks: BackgroundTasks) -> None:
    async def script(request: ReplyRequest, number: int) -> AsyncGenerator[Any, None]:
        yield (Began("replica-0"), TextDelta(99, f"text {number}"))
        raise ReplicaLost("gone")

    events = await Side(script, tasks).reply(ask())
    assert events == [TextDelta(7, "text 0"), Failed(7, LOST, died=True)]


async def test_who_was_not_told_to_drop_caches_learns_it_from_the_next_request(
    tasks: BackgroundTasks,
) -> None:
    side = Side(whole, tasks)
    await side.reply(ask(1))
    side.commands.begin(DropCaches())
    await side.reply(ask(2))
    before, after = (one.epoch for one in side.replicas.requests)
    assert before != after
    assert side.replicas.told == [("drop_caches", (after,))]


async def test_a_prompt_is_read_ahead_by_the_replica_that_knows_the_channel(
    tasks: BackgroundTasks,
) -> None:
    side = Side(lost_once, tasks)
    await side.reply(ask())
    [request, _] = side.replicas.requests
    side.commands.begin(Prefetch(TINY, tuple(HELLO), 5))
    await side.replicas.asked.wait()
    told = ("prefetch", (request.model, tuple(HELLO), 5, request.epoch))
    assert side.replicas.told == [told]
    assert side.replicas.affinities[-1] == "5-1"


async def test_a_source_without_a_model_is_a_sentence(
    tasks: BackgroundTasks, tmp_path: Path
) -> None:
    side = Side(whole, tasks)
    gone = replace(ask(), source=str(tmp_path / "gone"))
    sentence = "There is no model folder gone."
    assert await side.reply(gone) == [Failed(7, sentence, during_load=True)]
    assert not side.replicas.requests

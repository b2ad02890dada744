"""The contract of a GenerationBackend, for the real clients and for the fake of the tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from core.records import Message, Role
from model.backend import GenerationBackend
from model.errors import LoadFailed
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.worker.client import WorkerClient
from model.worker.messages import Finished, ModelInfo, Ready, Rendered, TextDelta
from tests.fakes import FakeWorker

TALK = (
    Message(Role.USER, "hello"),
    Message(Role.ASSISTANT, "hello you"),
    Message(Role.USER, "how are you?"),
)
PARAMS = SamplingParams(max_new_tokens=20, seed=4)


@dataclass
class Side:
    worker: GenerationBackend
    good: str
    broken: str


@pytest.fixture(params=["real", "fake", pytest.param("cluster", marks=pytest.mark.cluster)])
def side(request: pytest.FixtureRequest, folders: Path) -> Iterator[Side]:
    good, broken = str(folders / "red"), str(folders / "nowhere")
    if request.param != "fake":
        fixture = {"real": "client", "cluster": "cluster_client"}[request.param]
        client: WorkerClient = request.getfixturevalue(fixture)
        yield Side(client, good, broken)
    else:
        fake = FakeWorker()
        fake.broken[broken] = "There is no model folder nowhere."
        yield Side(fake, good, broken)


MEMBERS = {name: one for name, one in vars(GenerationBackend).items() if not name.startswith("_")}


@pytest.mark.parametrize("name", MEMBERS)
async def test_it_implements_the_protocol(side: Side, name: str) -> None:
    implemented, declared = getattr(side.worker, name), MEMBERS[name]
    if not isinstance(declared, property):
        _, *parameters = inspect.signature(declared).parameters.values()
        assert list(inspect.signature(implemented).parameters.values()) == parameters


async def test_start_has_told_the_facts(side: Side) -> None:
    assert isinstance(side.worker.ready, Ready)
    assert side.worker.models[str(EMBEDDED_FOLDER)] == side.worker.ready.model


async def test_it_gives_a_sign_of_life_and_has_set_nothing_aside(side: Side) -> None:
    assert 0 < await side.worker.ping() < 5
    assert side.worker.quarantined == {}


async def test_a_reply_is_deltas_and_one_end(side: Side) -> None:
    *deltas, end = [one async for one in side.worker.generate(str(EMBEDDED_FOLDER), TALK, PARAMS)]
    assert isinstance(end, Finished)
    assert deltas
    assert all(isinstance(one, TextDelta) and one.text for one in deltas)
    assert "".join(one.text for one in deltas) == end.text
    assert end.seed == PARAMS.seed
    assert {one.request_id for one in deltas} == {end.request_id}


async def test_a_reply_can_be_left(side: Side) -> None:
    stream = side.worker.generate(str(EMBEDDED_FOLDER), TALK, PARAMS)
    assert isinstance(await anext(stream), TextDelta)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_reply_can_be_ended_where_it_is(side: Side) -> None:
    stream = side.worker.generate(str(EMBEDDED_FOLDER), TALK, replace(PARAMS, max_new_tokens=150))
    said = [await anext(stream)]
    side.worker.abort(said[0].request_id)
    *more, end = [one async for one in stream]
    assert isinstance(end, Finished)
    assert end.text == "".join(one.text for one in [*said, *more]).rstrip()
    assert end.new_tokens
    assert end.first_token_s is not None
    assert end.first_token_s <= end.seconds
    side.worker.abort(end.request_id)  # too late: nothing happens


async def test_replies_run_side_by_side(side: Side) -> None:
    async def reply() -> str:
        pieces = [one async for one in side.worker.generate(str(EMBEDDED_FOLDER), TALK, PARAMS)]
        return str(pieces[-1].text)

    texts = await asyncio.gather(*(reply() for _ in range(3)))
    assert len(set(texts)) == 1


async def test_a_model_is_loaded_and_listed(side: Side) -> None:
    facts = await side.worker.load(side.good)
    assert isinstance(facts, ModelInfo)
    assert facts.source == side.good
    assert side.worker.models[side.good].parameters == facts.parameters


async def test_a_model_that_cannot_be_loaded_is_a_sentence(side: Side) -> None:
    with pytest.raises(LoadFailed, match=r"^There is no model folder nowhere\.$"):
        await side.worker.load(side.broken)
    assert side.broken not in side.worker.models


async def test_render_shows_what_the_model_sees(side: Side) -> None:
    rendered = await side.worker.render(str(EMBEDDED_FOLDER), TALK, 60)
    assert isinstance(rendered, Rendered)
    assert rendered.messages == TALK
    assert len(rendered.token_counts) == len(TALK)
    assert sum(rendered.token_counts) < rendered.total_tokens <= rendered.budget
    assert "how are you?" in rendered.text
    assert (rendered.num_dropped, rendered.truncated) == (0, False)


async def test_replies_go_on_when_the_caches_are_dropped(side: Side) -> None:
    texts = []
    for _ in range(2):
        stream = side.worker.generate(str(EMBEDDED_FOLDER), TALK, PARAMS, channel=5)
        first = await anext(stream)
        side.worker.prefetch(str(EMBEDDED_FOLDER), TALK, 5)
        side.worker.drop_caches()
        texts.append([first, *[one async for one in stream]][-1].text)
    assert texts[0] == texts[1]


async def test_a_ping_is_answered(side: Side) -> None:
    assert await side.worker.ping() >= 0
    assert side.worker.num_pending == 0

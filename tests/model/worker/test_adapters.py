"""Adapters as models, through a real worker: swapped while replies stream, evicted, set aside."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.engine.engine import MB
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.main import Worker
from model.worker.messages import Failed, Finished, Generate, LoadModel, ModelUnloaded
from model.worker.running_models import RunningModels
from tests.builds import BUILT, built
from tests.model.conftest import CPU_INT8, HELLO
from tests.model.worker.test_main import Pipe
from tests.model_folders import make_adapter_folder, make_model_folder

BASE_TEXT = "red roses are in bloom today"
OLD, NEW = "today roses are red", "bloom today in red"
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(make_model_folder(tmp_path_factory.mktemp("base") / "base", says=BASE_TEXT))


async def reply(client: WorkerClient, folder: Path) -> str:
    async for piece in client.generate(str(folder), HELLO, GREEDY):
        if isinstance(piece, Finished):
            return piece.text
    raise AssertionError("no end")


async def test_a_version_is_swapped_while_replies_stream(
    client: WorkerClient, base: Path, tmp_path: Path
) -> None:
    """Each reply is wholly of one version, and the base and other adapters go on."""
    mine = make_adapter_folder(tmp_path / "mine", base, says=OLD)
    other = make_adapter_folder(tmp_path / "other", base, says="roses in bloom")
    versions = [make_adapter_folder(tmp_path / f"v{n}", base, says=NEW) for n in range(1)]
    await client.load(str(mine))
    assert await reply(client, mine) == OLD
    done = asyncio.Event()

    async def chat(folder: Path) -> list[str]:
        texts = [await reply(client, folder)]
        while not done.is_set():
            texts.append(await reply(client, folder))
        return texts

    chats = [asyncio.create_task(chat(folder)) for folder in (mine, mine, other, base)]
    await reply(client, other)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(versions[0] / name, mine / name)
    await client.load(str(mine))
    assert await reply(client, mine) == NEW
    done.set()
    first, second, others, bases = await asyncio.gather(*chats)
    assert set(first + second) <= {OLD, NEW}
    assert set(others) == {"roses in bloom"}
    assert set(bases) == {BASE_TEXT}


async def test_adapters_are_models_to_the_client(
    client: WorkerClient, base: Path, tmp_path: Path
) -> None:
    folder = make_adapter_folder(tmp_path / "mine", base, says=OLD)
    info = await client.load(str(folder))
    assert client.models[str(folder)] == info
    assert info.source == str(folder)


class Inside:
    """A worker without a process around it, of which the embedded model is resident."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.pipe = Pipe()
        self.commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.running = RunningModels(multiprocessing.get_context("spawn"), settings.max_sequences)
        embedded = str(EMBEDDED_FOLDER)
        self.worker = Worker(
            self.pipe,  # type: ignore[arg-type]
            self.running,
            self.commands,
            CPU_INT8,
            settings,
            embedded=embedded,
            folder=BUILT,
        )
        self.worker.engine.install(self.worker.load(embedded))

    def load(self, source: Path, number: int = 1) -> None:
        self.worker.handle(LoadModel(number, str(source)))
        self.worker.handle(self.commands.get(timeout=60))


@pytest.fixture
def narrow() -> Inside:
    """There is memory for the embedded model, and for three of its adapters."""
    settings = WorkerSettings(max_sequences=4, build_cache=BUILT, threads=1)
    inside = Inside(settings)
    adapter_bytes = 2 * 5 * 4 * (256 + 768 + 256 + 256)
    room_in_rows = 4 * 5 * 5 * 8 * (256 + 768 + 1 + 256 + 256 + 1)
    limit = inside.worker.engine.weight_bytes + room_in_rows + 3 * adapter_bytes
    inside.worker._settings = replace(settings, memory_mb=limit / MB)
    return inside


def test_the_least_recently_used_adapters_are_evicted_and_come_back(
    narrow: Inside, tmp_path: Path
) -> None:
    folders = [make_adapter_folder(tmp_path / f"{n}", EMBEDDED_FOLDER, seed=n) for n in range(5)]
    for folder in folders:
        narrow.load(folder)
    engine = narrow.worker.engine
    assert engine.sources == [str(EMBEDDED_FOLDER), *map(str, folders[2:])]
    gone = [one.source for one in narrow.pipe.sent if isinstance(one, ModelUnloaded)]
    assert gone == [str(folders[0]), str(folders[1])]
    narrow.worker.handle(Generate(9, str(folders[0]), tuple(HELLO), GREEDY))
    narrow.worker.handle(narrow.commands.get(timeout=60))
    while engine.has_work:
        engine.step()
    assert str(folders[2]) not in engine.sources
    assert any(isinstance(one, Finished) and one.request_id == 9 for one in narrow.pipe.sent)


def test_the_worker_says_exactly_which_models_a_step_runs(tmp_path: Path) -> None:
    inside = Inside(WorkerSettings(max_sequences=4, build_cache=BUILT, threads=1))
    folders = [make_adapter_folder(tmp_path / f"{n}", EMBEDDED_FOLDER, seed=n) for n in range(3)]
    sources = [*map(str, folders), str(EMBEDDED_FOLDER)]
    for folder in folders:
        inside.load(folder)
    params = replace(GREEDY, max_new_tokens=30)
    seen: list[set[str]] = []
    begin = inside.running.begin
    inside.worker.engine._on_run = lambda some: (
        begin(some),
        seen.append(inside.running.among(sources)),
    )
    for number, source in enumerate(sources[:2], 1):
        inside.worker.handle(Generate(number, source, tuple(HELLO), params))
    while inside.worker.engine.has_work:
        inside.worker.engine.step()
    assert set(sources[:2]) in seen
    assert not any(set(sources[2:]) & one for one in seen)


def test_a_broken_adapter_fails_alone(tmp_path: Path) -> None:
    inside = Inside(WorkerSettings(max_sequences=4, build_cache=BUILT, threads=1))
    good = make_adapter_folder(tmp_path / "good", EMBEDDED_FOLDER)
    bad = make_adapter_folder(tmp_path / "bad", EMBEDDED_FOLDER)
    (bad / "adapter_model.safetensors").write_bytes(b"nothing")
    inside.load(good, 1)
    inside.load(bad, 2)
    assert str(good) in inside.worker.engine.sources
    [failed] = [one for one in inside.pipe.sent if isinstance(one, Failed)]
    assert failed.request_id == 2
    assert "bad is damaged" in failed.reason

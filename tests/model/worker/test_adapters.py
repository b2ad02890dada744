"""Adapters as models, through a real worker: swapped while replies stream, evicted, set aside."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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

    def ask(self, *sources: Path) -> list[str]:
        """What they say, asked at the same moment; or why they do not."""
        missing = {str(one) for one in sources} - set(self.worker.engine.sources)
        self.pipe.sent.clear()
        for number, source in enumerate(sources):
            self.worker.handle(Generate(number, str(source), tuple(HELLO), GREEDY, scope=number))
        for _ in missing:
            self.worker.handle(self.commands.get(timeout=60))
        self.finish()
        ended = [one for one in self.pipe.sent if isinstance(one, Finished | Failed)]
        ended.sort(key=lambda one: one.request_id)
        return [one.text if isinstance(one, Finished) else str(one.reason) for one in ended]

    def finish(self) -> None:
        """As the worker's loop does until nobody waits."""
        while self.worker.engine.has_work:
            self.worker.engine.step()
            self.worker._outbox.flush_due()
            self.worker._evict_models()


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


ON_DISK, IN_MEMORY = 10_000, 300
ORDERS = ("today roses are red", "bloom today in red", "red roses in bloom", "in bloom are roses")


@pytest.fixture
def ten_thousand(base: Path, tmp_path: Path) -> dict[Path, str]:
    """Adapters of one base, and what they say; those that say the same share their files."""
    kinds = [
        make_adapter_folder(tmp_path / f"kind-{n}", base, says=text)
        for n, text in enumerate(ORDERS)
    ]
    made = {}
    for n in range(ON_DISK):
        folder = tmp_path / "checkpoints" / str(n) / "mine-1"
        folder.mkdir(parents=True)
        kind = n % len(kinds)
        for name in ("adapter_config.json", "adapter_model.safetensors", "manifest.json"):
            (folder / name).hardlink_to(kinds[kind] / name)
        made[folder] = ORDERS[kind]
    return made


def test_of_ten_thousand_adapters_three_hundred_are_in_memory(
    ten_thousand: dict[Path, str],
) -> None:
    """Whoever asks for any of them, 16 at a time, is answered by that one; memory has its limit."""
    settings = WorkerSettings(max_sequences=16, build_cache=BUILT, threads=1)
    inside = Inside(settings)
    engine, folders = inside.worker.engine, list(ten_thousand)
    inside.load(folders[0])
    adapter = engine._resident[str(folders[0])].adapter
    assert adapter is not None
    limit = engine.weight_bytes + (IN_MEMORY - 1) * adapter.nbytes
    inside.worker._settings = replace(settings, memory_mb=limit / MB)
    draw = Random(0)
    asked = set[Path]()
    for _ in range(25):
        group = draw.sample(folders, 16)
        assert inside.ask(*group) == [ten_thousand[one] for one in group]
        asked.update(group)
        assert engine.weight_bytes <= limit
    assert len(asked) > IN_MEMORY
    assert len(engine.sources) == 1 + IN_MEMORY  # and the embedded model
    assert len({one.batch_key for one in engine._resident.values()}) == 2
    assert set(engine.sources[-16:]) == {str(one) for one in group}
    former = draw.sample(sorted(asked - {Path(one) for one in engine.sources}), 16)
    assert inside.ask(*former) == [ten_thousand[one] for one in former]


def test_a_base_that_is_replaced_under_its_adapters(tmp_path: Path) -> None:
    """Those in memory go on with the old one; others are refused until it is back."""
    base = make_model_folder(tmp_path / "base", says=BASE_TEXT)
    old = shutil.copytree(base, tmp_path / "old")
    mine = make_adapter_folder(tmp_path / "mine", base, says=OLD)
    other = make_adapter_folder(tmp_path / "other", base, says=NEW)
    inside = Inside(WorkerSettings(max_sequences=4, build_cache=BUILT, threads=1))
    assert inside.ask(mine, base) == [OLD, BASE_TEXT]
    make_model_folder(base, says="nothing like that")
    refused = (
        "{} belongs to other weights of base than those that are here now: put the old ones back, "
        "or retrain."
    )
    assert inside.ask(mine, other) == [OLD, refused.format("other")]
    inside.load(base)
    assert inside.ask(mine, base) == [OLD, "nothing like that"]
    inside.worker.engine.evict(str(mine))
    assert inside.ask(mine) == [refused.format("mine")]
    shutil.rmtree(base)
    old.rename(base)
    assert inside.ask(mine, other) == [OLD, NEW]


def test_a_broken_version_displaces_nothing(base: Path, tmp_path: Path) -> None:
    """A reply under way and the later ones are those of the version before."""
    inside = Inside(WorkerSettings(max_sequences=4, build_cache=BUILT, threads=1))
    mine = make_adapter_folder(tmp_path / "mine", base, says=OLD)
    inside.load(mine)
    inside.worker.handle(Generate(1, str(mine), tuple(HELLO), GREEDY))
    inside.worker.engine.step()
    inside.worker.engine.step()
    tensors = load_file(mine / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = np.nan
    save_file(tensors, mine / "adapter_model.safetensors", metadata={"format": "pt"})
    inside.load(mine, 2)
    inside.finish()
    [failed] = [one for one in inside.pipe.sent if isinstance(one, Failed)]
    assert failed.request_id == 2
    assert str(failed.reason) == "mine is broken: it has weights that are not finite numbers."
    [ended] = [one for one in inside.pipe.sent if isinstance(one, Finished)]
    assert ended.text == OLD
    assert inside.ask(mine) == [OLD]


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

"""Adapters of one base in one batch: each reply is what its adapter says alone, on each runner."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.records import Message, Role
from model import loading
from model.adapter import Adapter
from model.bases import Base, Bases
from model.loading import LoadedModel
from model.registry import EMBEDDED_FOLDER
from model.runners.base import Runner
from model.runners.onnx_runner import OnnxRunner
from model.sampling import SamplingParams
from model.worker.messages import Generate, Prefetch
from tests.builds import BUILT, built
from tests.model.conftest import CPU, CPU_INT8
from tests.model.engine.test_engine import GREEDY, Desk
from tests.model.runners.test_contract import MAKERS
from tests.model_folders import make_adapter_folder, make_model_folder

TEXTS = ("Hello!", "What do you like to eat?", "Tell me about the sea and the ships on it.", "Why?")
DRAWN = SamplingParams(max_new_tokens=12, seed=5)

Load = Callable[[Path], LoadedModel]


def base_on(make: Callable[[], Runner]) -> Callable[[str], Base]:
    """A base on another runner, with all else as on the usual one."""

    def open_base(source: str) -> Base:
        plain = loading.load(source, CPU, BUILT).base
        assert plain is not None
        return Base(make(), plain.tokenizer, plain.meta, plain.trial_ids)

    return open_base


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of the embedded model, with different ranks, and one that changes the MLP too."""
    folder = tmp_path_factory.mktemp("adapters")
    every = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    return [
        make_adapter_folder(folder / "one", EMBEDDED_FOLDER, rank=4, seed=1),
        make_adapter_folder(folder / "two", EMBEDDED_FOLDER, rank=8, seed=2),
        make_adapter_folder(folder / "wide", EMBEDDED_FOLDER, rank=20, seed=3),
        make_adapter_folder(folder / "deep", EMBEDDED_FOLDER, rank=2, seed=4, matrices=every),
    ]


@pytest.fixture(params=MAKERS)
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    """Loads models that share their base, on each runner."""
    bases, name = Bases(), request.param
    device = CPU_INT8 if "int8" in name else CPU
    built(EMBEDDED_FOLDER, device.serving_precision)
    kept = None  # bases are held by those who use them
    if name not in ("onnx fp32", "onnx int8"):
        kept = bases.get(str(EMBEDDED_FOLDER), base_on(MAKERS[name]))
    yield lambda path: loading.load(str(path), device, BUILT, bases=bases)
    del kept


def ask(desk: Desk, number: int, loaded: LoadedModel, text: str, params: SamplingParams) -> None:
    desk.ask(loaded, params, number, [Message(Role.USER, text)], channel=number, scope=number % 3)


def alone(loaded: LoadedModel, text: str, params: SamplingParams = DRAWN) -> str:
    desk = Desk()
    ask(desk, 1, loaded, text, params)
    desk.run()
    return desk.finished().text


def test_batched_equals_alone_in_any_order_of_joining_and_leaving(
    load: Load, adapters: list[Path]
) -> None:
    models = [load(path) for path in (EMBEDDED_FOLDER, *adapters)]
    assert len({id(one.runner) for one in models}) == 1
    requests = [
        (models[n % len(models)], TEXTS[n % len(TEXTS)], replace(DRAWN, max_new_tokens=4 + n % 9))
        for n in range(14)
    ]
    expected = [alone(*one) for one in requests]
    assert len(set(expected[: len(models)])) > 1, "the adapters must differ"
    desk = Desk(max_sequences=5)
    for number, one in enumerate(requests, 1):
        ask(desk, number, *one)
        if number % 3 == 0:
            desk.engine.step()
    desk.run()
    assert [desk.finished(n).text for n in range(1, 15)] == expected


def test_one_step_decodes_for_all_adapters_of_a_base(load: Load, adapters: list[Path]) -> None:
    desk = Desk()
    for number, path in enumerate(adapters, 1):
        ask(desk, number, load(path), TEXTS[0], DRAWN)
    for _ in range(3):
        desk.engine.step()
    tokens = [len(one.reply_ids) for one in desk.engine._scheduler.sequences]
    assert len(tokens) == len(adapters)
    assert min(tokens) > 0


def test_a_reply_under_way_ends_on_the_version_that_it_began_with(
    load: Load, adapters: list[Path], tmp_path: Path
) -> None:
    path = shutil.copytree(adapters[0], tmp_path / "mine")
    old = load(path)
    old_text = alone(old, TEXTS[1])
    shutil.copy(adapters[1] / "adapter_model.safetensors", path)
    shutil.copy(adapters[1] / "adapter_config.json", path)
    new = load(path)
    new_text = alone(new, TEXTS[1])
    assert old_text != new_text
    desk = Desk()
    ask(desk, 1, old, TEXTS[1], DRAWN)
    while len(desk.deltas(1)) < 2:
        desk.engine.step()
    desk.engine.install(new)
    ask(desk, 2, new, TEXTS[1], DRAWN)
    desk.run()
    assert (desk.finished(1).text, desk.finished(2).text) == (old_text, new_text)
    held = weakref.ref(old.adapter)
    del old
    gc.collect()
    assert held() is None, "the old version is freed with its last reply"


def test_prefixes_are_kept_by_adapter(load: Load, adapters: list[Path]) -> None:
    """The same channel goes over to another adapter, whose cache must not be that of the first."""
    first, second = load(adapters[0]), load(adapters[1])
    expected = alone(second, TEXTS[2])
    desk = Desk()
    for number, loaded in enumerate((first, second, first, second), 1):
        desk.ask(loaded, DRAWN, number, [Message(Role.USER, TEXTS[2])], channel=7)
        desk.run()
    assert desk.finished(2).text == desk.finished(4).text == expected
    assert desk.finished(1).text == desk.finished(3).text == alone(first, TEXTS[2])


def test_a_prefetch_is_read_with_its_adapter(load: Load, adapters: list[Path]) -> None:
    loaded = load(adapters[2])
    messages = (Message(Role.USER, TEXTS[2]),)
    desk = Desk()
    desk.engine.install(loaded)
    desk.engine.prefetch(Prefetch(loaded.info.source, messages, channel=1))
    desk.run()
    desk.engine.submit(Generate(1, loaded.info.source, messages, DRAWN, channel=1))
    desk.run()
    assert desk.finished().text == alone(loaded, TEXTS[2])


def test_memory_counts_adapters_by_their_own_size_and_the_base_once(
    load: Load, adapters: list[Path]
) -> None:
    models = [load(path) for path in (EMBEDDED_FOLDER, *adapters)]
    desk = Desk()
    for one in models:
        desk.engine.install(one)
    own = [one.adapter.nbytes for one in models if one.adapter]
    assert desk.engine.weight_bytes == models[0].runner.weight_bytes + sum(own)
    assert not desk.engine.takes_memory(str(EMBEDDED_FOLDER))
    for path in adapters:
        assert desk.engine.takes_memory(str(path))
        desk.engine.evict(str(path))
    assert desk.engine.takes_memory(str(EMBEDDED_FOLDER))
    assert desk.engine.weight_bytes == models[0].runner.weight_bytes


def test_adapters_say_what_they_were_made_to_say(tmp_path: Path) -> None:
    base = built(make_model_folder(tmp_path / "base", says="red roses are in bloom today"))
    texts = {"one": "today roses bloom in red", "two": "roses are red", "three": "in bloom today"}
    bases = Bases()
    desk = Desk()
    for number, (name, text) in enumerate(texts.items(), 1):
        folder = make_adapter_folder(tmp_path / name, base, says=text)
        desk.ask(loading.load(str(folder), CPU_INT8, BUILT, bases=bases), GREEDY, number)
    desk.ask(loading.load(str(base), CPU_INT8, BUILT, bases=bases), GREEDY, 4)
    desk.run()
    assert [desk.finished(n).text for n in (1, 2, 3)] == list(texts.values())
    assert desk.finished(4).text == "red roses are in bloom today"


def test_loading_another_version_reads_no_more_than_the_adapter(
    load: Load, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(adapters[0])
    hashed: list[Path] = []
    monkeypatch.setattr("model.bases.weights_sha256", lambda base: hashed.append(base.path))
    monkeypatch.setattr(loading, "get_or_build", lambda *_: pytest.fail("it was built again"))
    monkeypatch.setattr(OnnxRunner, "_open", lambda *_: pytest.fail("a graph was opened"))
    again = load(adapters[0])
    assert again.runner is first.runner
    assert isinstance(again.adapter, Adapter)
    assert again.adapter.key != first.adapter.key  # type: ignore[union-attr]
    assert hashed == []


def test_an_adapter_changes_int8_as_it_changes_fp32(adapters: list[Path]) -> None:
    """It reads what the matrix of the checkpoint would read, however int8 prepares that."""
    ids = list(range(40, 70))
    for path in adapters:
        changes = []
        for device in (CPU, CPU_INT8):
            built(EMBEDDED_FOLDER, device.serving_precision)
            loaded = loading.load(str(path), device, BUILT)
            plain = loaded.runner.prefill(0, ids, 0).copy()
            loaded.runner.use_adapter(1, loaded.adapter)
            changes.append(loaded.runner.prefill(1, ids, 0) - plain)
        exact, quantized = changes
        assert np.abs(exact).max() > 0.5
        assert np.linalg.norm(exact - quantized) < 0.15 * np.linalg.norm(exact)

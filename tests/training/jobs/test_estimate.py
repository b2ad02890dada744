"""Estimates: their parts where those are known exactly, and how they move with the settings."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.convert.shapes import expected_shapes
from model.registry import EMBEDDED_FOLDER
from tests.model_folders import make_adapter_folder
from training.config import Method, Recipe
from training.jobs.estimate import (
    KNOWN_SHAPES,
    MAX_BATCH_SIZE,
    max_batch_size,
    peak_memory_mb,
    shape_of,
    training_seconds,
)

GPT2 = KNOWN_SHAPES["gpt2"]
METHODS: list[Method] = ["full", "lora"]
CONFIG = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}


def config(folder: Path, **settings: object) -> str:
    (folder / "config.json").write_text(json.dumps(CONFIG | settings))
    return str(folder)


def test_an_adapter_has_the_shape_of_its_base(tmp_path: Path) -> None:
    adapter = make_adapter_folder(tmp_path / "tiny-1", EMBEDDED_FOLDER)
    assert shape_of(str(adapter)) == shape_of(str(EMBEDDED_FOLDER)) is not None
    (adapter / "adapter_config.json").write_text("{}")
    assert shape_of(str(adapter)) is None


@pytest.mark.parametrize(
    "settings", [{}, {"n_inner": 100}, {"tie_word_embeddings": False}, {"n_positions": 64}]
)
def test_parameters_are_those_of_the_weights(tmp_path: Path, settings: dict[str, object]) -> None:
    shape = shape_of(config(tmp_path, **settings))
    assert shape is not None
    expected = expected_shapes(CONFIG | settings)
    assert shape.parameters == sum(math.prod(one) for one in expected.values())


def test_the_hubs_models_are_known_without_their_files(tmp_path: Path) -> None:
    assert shape_of(config(tmp_path)) == GPT2
    medium = shape_of(config(tmp_path, n_embd=1024, n_layer=24, n_head=16))
    assert medium == shape_of("gpt2-medium")


def test_the_embedded_model() -> None:
    shape = shape_of(str(EMBEDDED_FOLDER))
    assert shape is not None
    assert (
        shape.parameters
        == json.loads((EMBEDDED_FOLDER / "manifest.json").read_text())["parameters"]
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"n_layer": "x"}', '{"n_layer": null}'])
def test_a_folder_that_says_nothing_useful(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert shape_of(str(tmp_path)) is None
    assert shape_of(str(tmp_path / "nowhere")) is None
    assert shape_of("somebody/their-model") is None


sizes = st.integers(1, MAX_BATCH_SIZE - 1)
lengths = st.integers(8, 1024)


@given(batch=sizes, length=lengths, method=st.sampled_from(METHODS))
def test_more_needs_more_and_lora_needs_less(batch: int, length: int, method: Method) -> None:
    def needed(batch: int, length: int, method: Method, labelled: float = 0.5) -> float:
        return peak_memory_mb(
            GPT2, batch_size=batch, max_length=length, method=method, labelled=labelled
        )

    this = needed(batch, length, method)
    assert this <= needed(batch + 1, length, method)
    assert this <= needed(batch, length + 1, method)
    assert this <= needed(batch, length, method, 1.0)
    assert needed(batch, length, "lora") < needed(batch + 1, length, "lora")
    assert needed(batch, length, "full") - needed(batch, length, "lora") > 8e-6 * GPT2.parameters


@pytest.mark.parametrize(
    ("name", "method", "measured"),
    [("gpt2", "full", 3059), ("gpt2-medium", "lora", 4507)],
)
def test_it_is_near_what_was_measured(name: str, method: Method, measured: float) -> None:
    needed = peak_memory_mb(KNOWN_SHAPES[name], batch_size=8, max_length=128, method=method)
    assert needed == pytest.approx(measured, rel=0.1)


@given(free=st.floats(0, 64_000), length=lengths, method=st.sampled_from(METHODS))
def test_what_fits_is_the_largest_batch_that_does(free: float, length: int, method: Method) -> None:
    def fits(batch: int) -> bool:
        return peak_memory_mb(GPT2, batch_size=batch, max_length=length, method=method) <= free

    batch = max_batch_size(GPT2, free_mb=free, max_length=length, method=method)
    if batch is None:
        assert not fits(1)
    else:
        assert fits(batch)
        assert batch == MAX_BATCH_SIZE or not fits(batch + 1)


def test_time_is_operations_by_speed() -> None:
    head, blocks = 50257 * 768, 12 * 12 * 768**2
    assert training_seconds(GPT2, 10, flops_per_s=2, labelled=0) == 10 * 6 * blocks / 2
    assert training_seconds(GPT2, 10, flops_per_s=2, labelled=1) == 10 * 6 * (blocks + head) / 2
    assert (
        training_seconds(GPT2, 10, flops_per_s=2, labelled=0, method="lora") == 10 * 4 * blocks / 2
    )


def test_facts_need_a_copy_of_the_base_unless_lora_freezes_it() -> None:
    def needed(method: Method, recipe: Recipe) -> float:
        return peak_memory_mb(GPT2, batch_size=8, max_length=128, method=method, recipe=recipe)

    weights_mb = 4 * GPT2.parameters / 1e6
    assert needed("full", "facts") - needed("full", "talk") == pytest.approx(weights_mb, rel=0.1)
    assert needed("lora", "facts") == needed("lora", "talk")

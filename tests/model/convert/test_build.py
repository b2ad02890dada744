"""What is built of a checkpoint: once, whole, and found again by what is in the files."""

from __future__ import annotations

import json
import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from core.records import Message, Role
from model import loading
from model.chat_template import encode, encode_chat
from model.convert import build as module
from model.convert import onnx_graph
from model.convert.artifact import METADATA_FILE, WEIGHTS_FILE, read_metadata, read_tokenizer
from model.convert.build import build, get_or_build
from model.convert.onnx_graph import find_max_int8_weight, quantise
from model.errors import LoadFailed
from model.loading import LoadedModel, load
from model.registry import EMBEDDED_FOLDER
from model.runners.device import Device
from model.tokenizer import Tokenizer
from tests.model.conftest import CPU, CPU_INT8
from tests.model_folders import END, make_model_folder

# --- found again ---------------------------------------------------------------------------------


def test_it_is_built_once_and_again_when_a_file_changes(tmp_path: Path) -> None:
    checkpoint, cache = make_model_folder(tmp_path / "model", says="one"), tmp_path / "built"
    first = build(str(checkpoint), cache, "int8")
    made = (first / METADATA_FILE).stat().st_mtime_ns
    assert (
        build(str(checkpoint), cache, "int8")
        == first
        == get_or_build(str(checkpoint), cache, "int8")
    )
    assert (first / METADATA_FILE).stat().st_mtime_ns == made
    make_model_folder(checkpoint, says="two")
    second = build(str(checkpoint), cache, "int8")
    third = build(str(checkpoint), cache, "fp32")
    assert len({first, second, third}) == 3
    (checkpoint / "manifest.json").write_text("{}")  # changes nothing of what the model says
    assert build(str(checkpoint), cache, "int8") == second
    moved = shutil.copytree(checkpoint, tmp_path / "elsewhere")
    assert build(str(moved), cache, "int8") == second


def test_a_child_builds_and_its_reasons_come_back(tmp_path: Path) -> None:
    checkpoint = make_model_folder(tmp_path / "model")
    folder = get_or_build(str(checkpoint), tmp_path / "built", "int8")
    assert read_metadata(folder).parameters > 0
    with pytest.raises(LoadFailed, match="There is no model folder nowhere"):
        get_or_build(str(tmp_path / "nowhere"), tmp_path / "built", "int8")


def test_a_model_of_the_hub_is_found_where_the_hub_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that a download leaves, made on the spot; the child may not go online."""
    stored = tmp_path / "hub" / "models--someone--small"
    make_model_folder(stored / "snapshots" / "abc", says="from the hub")
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = load("someone/small", CPU, tmp_path / "built")
    assert loaded.info.source == "someone/small"
    assert first_words(loaded, 3) == " from the hub"
    with pytest.raises(LoadFailed, match="nor can the Hugging Face Hub be reached"):
        get_or_build("someone/else", tmp_path / "built", "int8")


def test_what_is_damaged_is_built_again(tmp_path: Path) -> None:
    checkpoint, cache = make_model_folder(tmp_path / "model", says="still here"), tmp_path / "built"
    folder = build(str(checkpoint), cache, "int8")
    for damage in (
        lambda: (folder / WEIGHTS_FILE).write_bytes(b""),
        lambda: (folder / "graph.onnx").write_bytes(b"no graph"),
        lambda: (folder / METADATA_FILE).write_text('{"positions": 128'),
    ):
        damage()
        assert load(str(checkpoint), CPU_INT8, cache).info.parameters > 0


def test_what_was_not_used_for_long_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "built"
    folders = []
    for n, says in enumerate(("one", "two", "three")):
        checkpoint = make_model_folder(tmp_path / says, says=says)
        folders.append(build(str(checkpoint), cache, "int8"))
        os.utime(folders[-1], (n, n))
    size = sum(path.stat().st_size for path in folders[0].iterdir())
    left = cache / ".left-by-a-build-that-was-killed"
    left.mkdir()
    os.utime(left, (0, 0))
    monkeypatch.setattr(module, "MAX_CACHE_BYTES", int(2.5 * size))
    build(str(make_model_folder(tmp_path / "four", says="four")), cache, "int8")
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert not left.exists()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The system refuses to write more than so many bytes of a file."""
    checkpoint, cache = make_model_folder(tmp_path / "model"), tmp_path / "built"
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, largest[1]))
    try:
        with pytest.raises(LoadFailed, match="The disk is too full to make model ready to run"):
            build(str(checkpoint), cache, "int8")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    assert list(cache.iterdir()) == []
    assert build(str(checkpoint), cache, "int8").exists()


# --- both runners --------------------------------------------------------------------------------


def first_words(loaded: LoadedModel, count: int) -> str:
    ids = encode_chat(loaded.tokenizer, [Message(Role.USER, "hello")])
    logits, said = loaded.runner.prefill(0, ids, 0), []
    for n in range(count):
        said.append(int(logits.argmax()))
        logits = loaded.runner.decode([said[-1]], [len(ids) + n])[0]
    return loaded.tokenizer.decode(said)


def test_torch_reads_the_checkpoint_itself(tmp_path: Path) -> None:
    """As on a GPU, but for the device."""
    checkpoint = make_model_folder(tmp_path / "model", says="from torch to you")
    folder = build(str(checkpoint), tmp_path / "built", "torch")
    meta = read_metadata(folder)
    assert not (folder / WEIGHTS_FILE).exists()
    runner = loading._load_torch(folder, meta, Device("cpu", "fp32", "fp32"), 2, 1)
    ids = encode_chat(read_tokenizer(folder, meta), [Message(Role.USER, "hello")])
    said = [int(runner.prefill(0, ids, 0).argmax())]
    said.append(int(runner.decode(said, [len(ids)])[0].argmax()))
    assert read_tokenizer(folder, meta).decode(said) == " from torch"


def test_torch_opens_several_models_at_once(tmp_path: Path) -> None:
    """As a worker on a GPU may have to; transformers alone cannot, and never again after that."""
    folder = build(str(make_model_folder(tmp_path / "model")), tmp_path / "built", "torch")
    meta, device = read_metadata(folder), Device("cpu", "fp32", "fp32")
    with ThreadPoolExecutor(4) as threads:
        runners = threads.map(lambda _: loading._load_torch(folder, meta, device, 2, 1), range(16))
        scores = [runner.prefill(0, [5, 6], 0) for runner in runners]
    assert all(np.array_equal(one, scores[0]) for one in scores)


def test_whole_numbers_are_near_and_never_beyond_the_largest() -> None:
    matrix = np.random.default_rng(0).standard_normal((64, 5000), np.float32)
    matrix[:, 7] = 0
    for top in (127, 63):
        whole, scale = quantise(matrix, top)
        assert np.abs(whole.astype(int)).max() == top
        assert np.abs(whole * scale - matrix).max() <= scale.max() / 2 * 1.001
        assert not whole[:, 7].any()


def test_the_largest_weight_is_one_of_two() -> None:
    assert find_max_int8_weight() in (127, 63)


# --- the tokenizer -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["tiny", "control", "plain", "old files"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreTrainedTokenizerBase, Tokenizer]:
    """transformers' tokenizer of a folder, and ours."""
    tmp_path = tmp_path_factory.mktemp("tokenizers")
    checkpoint = EMBEDDED_FOLDER
    if request.param != "tiny":
        plain = request.param == "plain"
        checkpoint = make_model_folder(tmp_path / "model", says="some known words", plain=plain)
    if request.param == "old files":
        whole = json.loads((checkpoint / "tokenizer.json").read_text())
        words = whole["model"]["vocab"] | {
            one["content"]: one["id"] for one in whole["added_tokens"]
        }
        (checkpoint / "vocab.json").write_text(json.dumps(words))
        (checkpoint / "merges.txt").write_text("#version: 0.2\n")
        (checkpoint / "tokenizer.json").unlink()
    folder = build(str(checkpoint), tmp_path / "built", "torch")
    theirs = AutoTokenizer.from_pretrained(str(checkpoint))
    ours = read_tokenizer(folder, read_metadata(folder))
    if not theirs.chat_template:
        theirs.chat_template = ours.chat_template
    return theirs, ours


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.booleans())
def test_ours_gives_the_ids_of_transformers(
    pair: tuple[PreTrainedTokenizerBase, Tokenizer], texts: list[str], cue: bool
) -> None:
    theirs, ours = pair
    roles = [Role.USER, Role.ASSISTANT]
    turns = [Message(roles[n % 2], text) for n, text in enumerate(texts)]
    ids = encode_chat(ours, turns, add_generation_prompt=cue)
    assert ids == encode_chat(theirs, turns, add_generation_prompt=cue)
    assert ids == encode(theirs, [turns], add_generation_prompt=cue)[0].input_ids
    assert ours.decode(ids) == theirs.decode(ids)


def test_both_know_the_same_tokens(pair: tuple[PreTrainedTokenizerBase, Tokenizer]) -> None:
    theirs, ours = pair
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert ours.eos_token == theirs.eos_token == END


def test_whatever_goes_wrong_in_a_template_is_a_template_error() -> None:
    whole = EMBEDDED_FOLDER / "tokenizer.json"
    for template in ("{{ 1 / 0 }}", "{{ messages[0].content + 1 }}", "{{ messages | frobnicate }}"):
        tokenizer = Tokenizer(whole, special_tokens={"eos_token": END}, chat_template=template)
        with pytest.raises(TemplateError):
            encode_chat(tokenizer, [Message(Role.USER, "hello")])
    tokenizer = Tokenizer(
        whole, special_tokens={"eos_token": END}, chat_template="{{ messages | tojson(indent=2) }}"
    )
    assert encode_chat(tokenizer, [Message(Role.USER, "hello")])


def test_no_memory_for_the_cache_is_told_and_costs_no_build(tmp_path: Path) -> None:
    """A model of a thousand million positions: no machine has that."""
    checkpoint, cache = make_model_folder(tmp_path / "model"), tmp_path / "built"
    folder = build(str(checkpoint), cache, "int8")
    meta = json.loads((folder / METADATA_FILE).read_text())
    (folder / METADATA_FILE).write_text(json.dumps(meta | {"positions": 10**12}))
    with pytest.raises(LoadFailed, match="There is not enough memory to load model"):
        load(str(checkpoint), CPU_INT8, cache)
    assert (folder / METADATA_FILE).exists()


def test_an_onnx_runtime_that_does_not_pack_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """To an older one the last input is one too many; to another it would mean something else."""
    assert onnx_graph.can_pack()
    for unused in ([*onnx_graph.UNUSED_INPUTS, ""], onnx_graph.UNUSED_INPUTS[1:]):
        monkeypatch.setattr(onnx_graph, "UNUSED_INPUTS", unused)
        assert not onnx_graph.can_pack()

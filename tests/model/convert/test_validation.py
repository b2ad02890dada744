"""A model's folder may come from a stranger: what is wrong with it is told before it is loaded."""

from __future__ import annotations

import ast
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model.convert.safetensors_header import MAX_HEADER_BYTES, InvalidHeader, read_header
from model.convert.shapes import MAX_SIZES, expected_shapes
from model.convert.validation import SIZE_LIMITS, ModelFolder, resolve_source, validate_folder
from model.errors import LoadFailed
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.worker.client import WorkerClient
from tests.model.conftest import HELLO, load
from tests.model_folders import make_model_folder
from training.errors import BaseUnavailable
from training.run.base_model import load_pretrained

ROOT = Path(__file__).parents[3]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stays as it is."""
    return make_model_folder(tmp_path_factory.mktemp("good") / "model", says="all is well")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(good, tmp_path / "model")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def why_not(folder: Path) -> str:
    with pytest.raises(LoadFailed) as caught:
        validate_folder(folder, "mine")
    assert str(caught.value).startswith(("mine ", "The weights of mine ", "There is not enough"))
    assert str(caught.value).endswith(".")
    assert caught.value.args[0].translate_to("ja").endswith("。")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_header(path: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file, written by hand; `header` is JSON, or bytes as they are."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


# --- what is right -------------------------------------------------------------------------------


def test_good_folders_pass(good: Path) -> None:
    for one in (good, EMBEDDED_FOLDER):
        found = validate_folder(one, "mine")
        assert isinstance(found, ModelFolder)
        assert found.tensors.keys() == expected_shapes(found.config).keys()


def test_what_the_library_writes_is_read_as_the_library_reads_it(good: Path) -> None:
    ours = {one.name: (one.shape, one.dtype) for one in read_header(good / WEIGHTS)}
    theirs = {name: (tuple(one.shape), "F32") for name, one in load_file(good / WEIGHTS).items()}
    assert ours == theirs


def test_other_files_beside_are_not_looked_at(folder: Path) -> None:
    for name in ("pytorch_model.bin", "model.pkl", "evil.py", "evil.pth", "README.md", "old.json"):
        (folder / name).write_bytes(b"\x80\x04cos\nsystem\n")
    (folder / "link.pkl").symlink_to("/etc/passwd")
    assert load(folder).info.parameters > 0


def test_links_may_stay_in_the_folder_or_lead_as_in_the_cache_of_the_hub(
    good: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / WEIGHTS).rename(folder / "weights")
    (folder / WEIGHTS).symlink_to("weights")
    assert validate_folder(folder, "mine")
    model = tmp_path / "models--someone--small"
    snapshot = shutil.copytree(good, model / "snapshots" / "abc")
    (model / "blobs").mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(model / "blobs" / f"hash-of-{path.name}")
        path.symlink_to(Path("..", "..", "blobs", f"hash-of-{path.name}"))
    assert validate_folder(snapshot, "mine")
    (tmp_path / "blobs" / "ab").mkdir(parents=True)  # what all models of the cache share
    (model / "blobs" / f"hash-of-{WEIGHTS}").rename(tmp_path / "blobs" / "ab" / "abcd")
    (model / "blobs" / f"hash-of-{WEIGHTS}").symlink_to(Path("..", "..", "blobs", "ab", "abcd"))
    assert validate_folder(snapshot, "mine")
    linked = tmp_path / "linked"
    linked.symlink_to(snapshot)
    assert validate_folder(linked, "mine")


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "tf_model.h5"])
def test_weights_that_could_run_code_are_not_read(folder: Path, name: str) -> None:
    (folder / WEIGHTS).rename(folder / name)
    assert f"files such as {name} are never read" in why_not(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS, "vocab.json"])
def test_links_that_lead_out(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "blobs").mkdir()
    outside = tmp_path / "blobs" / "a secret"
    outside.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    assert why_not(folder) == f"mine is refused: its {name} is a link that leads out of it."


def test_a_snapshot_may_not_lead_out_of_the_cache(good: Path, tmp_path: Path) -> None:
    snapshot = shutil.copytree(good, tmp_path / "hub" / "models--evil--one" / "snapshots" / "abc")
    (tmp_path / "secret").write_text("{}")
    (snapshot / "vocab.json").symlink_to(Path("..", "..", "..", "..", "secret"))
    assert "a link that leads out of it" in why_not(snapshot)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_in_place_of_a_file_holds_nobody_up(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    assert why_not(folder) == "mine is refused: its tokenizer.json is no ordinary file."


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "merges.txt", "spiece.model"])
def test_files_that_are_too_large(folder: Path, name: str) -> None:
    limit = SIZE_LIMITS["*.model" if name.endswith(".model") else name]
    with (folder / name).open("ab") as file:
        file.truncate(limit + 1)
    assert f"its {name} is larger than {limit >> 20} MB" in why_not(folder)


def test_an_adapter_is_no_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc"}')
    assert "holds an adapter" in why_not(folder)


@pytest.mark.parametrize("named", ["../outside.safetensors", "pytorch_model.bin", 7])
def test_an_index_may_only_name_the_weights_that_are_there(folder: Path, named: object) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"transformer.wte.weight": named}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert "names files that are not there" in why_not(folder)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        validate_folder(tmp_path / "nowhere", "mine")


# --- config.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_is_refused(folder: Path, name: str) -> None:
    edit(folder / name, auto_map={"AutoModelForCausalLM": "evil.Model"})
    assert why_not(folder) == (
        "mine wants to run code of its own, and such code is never run here."
    )


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"gpt2"', "\ud800"])
def test_a_config_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    assert why_not(folder) == "mine is damaged: its config.json cannot be read."


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "qwen2"}, "mine is a qwen2 model; only GPT-2"),
        ({"model_type": "evil\nkind"}, "mine is no GPT-2 model"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"transformers_weights": "adapter_model.bin"}, "transformers_weights"),
        ({"hidden_size": 1 << 40}, "hidden_size"),
        ({"activation_function": "relu6"}, "uses relu6, which cannot be computed here"),
        ({"n_head": 0}, "n_head is no number from 1 to"),
        ({"n_embd": True}, "n_embd is no number"),
        ({"n_layer": 10**12}, "n_layer is no number"),
        ({"vocab_size": -5}, "vocab_size is no number"),
        ({"n_positions": "many"}, "n_positions is no number"),
        ({"n_inner": 2.5}, "n_inner is no number"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon is no number"),
        ({"vocab_size": MAX_SIZES["vocab_size"]}, "other sizes than its config.json says"),
        ({"n_layer": MAX_SIZES["n_layer"]}, "are not complete"),
        ({"n_inner": 8}, "other sizes"),
    ],
)
def test_settings_that_lie(folder: Path, change: dict[str, object], told: str) -> None:
    edit(folder / "config.json", **change)
    assert told in why_not(folder)


def test_weights_that_no_machine_has_memory_for(folder: Path) -> None:
    """A file that takes no room on the disk, because nothing was ever written to most of it."""
    config = json.loads((folder / "config.json").read_text())
    sizes = {key: MAX_SIZES[key] for key in ("vocab_size", "n_positions")} | {
        "n_embd": MAX_SIZES["n_embd"]
    }
    sizes |= {"n_layer": 500}
    (folder / "config.json").write_text(json.dumps(config | sizes))
    header, end = {}, 0
    for name, shape in expected_shapes(config | sizes).items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    path = with_header(folder / WEIGHTS, header)
    try:
        os.truncate(path, path.stat().st_size + end)
    except OSError:
        pytest.skip("this file system has no files of that size")
    assert why_not(folder) == "There is not enough memory to load mine."


def test_weights_in_a_format_of_whole_numbers(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"].char()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    assert why_not(folder) == "mine has weights as I8, which cannot be used."


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_map_of_special_tokens_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "special_tokens_map.json").write_text(text)
    message = f"{folder.name} is damaged: its special_tokens_map.json cannot be read."
    with pytest.raises(LoadFailed, match=message):
        load(folder)
    with pytest.raises(BaseUnavailable, match=message):
        load_pretrained(str(folder))


# --- headers -------------------------------------------------------------------------------------

ONE: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_the_format_in_small(tmp_path: Path) -> None:
    notes = {"__metadata__": {"format": "pt"}}
    empty = {"dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0]}
    path = with_header(tmp_path / "a", notes | {"a": ONE, "b": empty}, bytes(8))
    assert [(one.name, one.shape) for one in read_header(path)] == [("a", (2,)), ("b", (0, 4))]
    padded = with_header(tmp_path / "b", json.dumps({"a": ONE}).encode() + b"   ", bytes(8))
    assert len(read_header(padded)) == 1


@pytest.mark.parametrize(
    ("header", "data", "told"),
    [
        ({"a": ONE}, bytes(7), "is cut short"),
        ({"a": ONE}, bytes(9), "data that belong to no tensor"),
        ({"a": ONE, "b": ONE}, bytes(8), "gap or an overlap"),
        ({"a": ONE, "b": ONE | {"data_offsets": [9, 17]}}, bytes(17), "gap or an overlap"),
        ({"a": ONE | {"data_offsets": [8, 0]}}, bytes(8), "another size for 'a'"),
        ({"a": ONE | {"data_offsets": [0, 8, 8]}}, bytes(8), "does not say where 'a' is"),
        ({"a": ONE | {"shape": [3]}}, bytes(8), "another size for 'a'"),
        ({"a": ONE | {"shape": [-2]}}, bytes(8), "no shape for 'a'"),
        ({"a": ONE | {"shape": [2**62] * 8}}, bytes(8), "another size for 'a'"),
        ({"a": ONE | {"shape": [9] * 100_000}}, bytes(8), "no shape for 'a'"),
        ({"a": ONE | {"dtype": "F99"}}, bytes(8), "'a' in an unknown format"),
        ({"a": ONE | {"dtype": ["F32"]}}, bytes(8), "'a' in an unknown format"),
        ({"a": ONE | {"more": 1}}, bytes(8), "does not say what 'a' is"),
        ({"a\x1b[2J": None}, b"", r"does not say what 'a\x1b[2J' is"),
        ({"__metadata__": {"n": 1}}, b"", "notes that are not texts"),
        (b'{"a": {}, "a": {}}', b"", "names something twice"),
        (b"[]", b"", "has no header"),
        (b'{"a": ', b"", "cannot be read"),
        (b'{"a":' + b"[" * 100_000, b"", "cannot be read"),
        (b"{\xff}", b"", "cannot be read"),
        (b"", b"", "has no header"),
    ],
)
def test_rules_of_the_format(tmp_path: Path, header: object, data: bytes, told: str) -> None:
    with pytest.raises(InvalidHeader) as caught:
        read_header(with_header(tmp_path / "a", header, data))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (2**63, "than the format allows"),
        (MAX_HEADER_BYTES + 1, "than any GPT-2 needs"),
        (100, "cut short"),
    ],
)
def test_a_length_that_lies_reserves_no_memory(tmp_path: Path, length: int, told: str) -> None:
    (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(InvalidHeader, match=told):
        read_header(tmp_path / "a")


# --- whatever is in the files --------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3)
    ),
    max_leaves=6,
)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.binary(max_size=200))
@quick
def test_bytes_of_any_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InvalidHeader):
        read_header(tmp_path / "a")


@given(st.data())
@quick
def test_a_header_with_anything_changed_is_refused(good: Path, folder: Path, data: Any) -> None:
    raw = (good / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    name = data.draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))
    key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
    value = data.draw(JSON)
    assume(value != header[name][key])
    header[name][key] = value
    with_header(folder / WEIGHTS, header, raw[8 + length :])
    why_not(folder)


@given(st.dictionaries(st.sampled_from([*MAX_SIZES, "n_inner", "model_type", "auto_map"]), JSON))
@quick
def test_settings_of_any_kind_end_in_a_sentence(
    good: Path, folder: Path, changes: dict[str, Any]
) -> None:
    shutil.copyfile(good / "config.json", folder / "config.json")
    edit(folder / "config.json", **changes)
    ends_in_a_sentence(lambda: validate_folder(folder, "mine"))


def ends_in_a_sentence(work: Callable[[], object]) -> None:
    """It works, or says why not; any other error is one too many."""
    told = "."
    try:
        work()
    except LoadFailed as e:
        told = str(e)
    assert told.endswith(".")


KEYS = ("eos_token_id", "activation_function", "tie_word_embeddings", "n_head", "torch_dtype")


@given(st.sampled_from(KEYS), JSON)
@settings(quick, max_examples=15)
def test_what_passes_is_loaded_or_ends_in_a_sentence(
    good: Path, folder: Path, key: str, value: Any
) -> None:
    shutil.copyfile(good / "config.json", folder / "config.json")
    edit(folder / "config.json", **{key: value})
    ends_in_a_sentence(lambda: load(folder))


async def refused(client: WorkerClient, folder: Path) -> str:
    with pytest.raises(LoadFailed) as caught:
        await client.load(str(folder))
    assert str(caught.value).endswith(".")
    return str(caught.value)


async def test_the_worker_outlives_every_folder(
    client: WorkerClient, good: Path, tmp_path: Path
) -> None:
    """The same process answers before, in between and afterwards."""
    pid = client.pid
    spoil: list[Callable[[Path], object]] = [
        lambda one: (one / WEIGHTS).write_bytes(os.urandom(1000)),
        lambda one: os.truncate(one / WEIGHTS, 5000),
        lambda one: (one / "tokenizer.json").write_bytes(os.urandom(1000)),
        lambda one: (one / "tokenizer.json").write_text('{"model": {"type": "BPE"}}'),
        lambda one: edit(one / "config.json", n_head=0),
        lambda one: edit(one / "config.json", auto_map={"AutoConfig": "evil.Config"}),
        lambda one: (one / WEIGHTS).rename(one / "model.bin"),
        lambda one: (one / "config.json").unlink(),
    ]
    for n, damage in enumerate(spoil):
        damage(shutil.copytree(good, tmp_path / str(n)))
        await refused(client, tmp_path / str(n))
    facts = await client.load(str(good))
    pieces = [one async for one in client.generate(facts.source, HELLO, SamplingParams())]
    assert pieces[-1].text == "all is well"
    assert client.pid == pid


# --- the code itself -----------------------------------------------------------------------------


def test_no_code_of_a_model_is_ever_trusted() -> None:
    """Every model is opened with `trust_remote_code=False`: without it, transformers may ask."""
    opened = 0
    for path in source_files():
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            given = {word.arg: word.value for word in call.keywords}
            opens = isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
            opened += opens
            if opens or "trust_remote_code" in given:
                trusted = given.get("trust_remote_code")
                assert isinstance(trusted, ast.Constant), f"{path}:{call.lineno}"
                assert trusted.value is False, f"{path}:{call.lineno}"
    assert opened > 0


def test_nothing_is_unpickled_from_a_file() -> None:
    for path in source_files():
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "import pickle" not in text, path


def source_files() -> list[Path]:
    rooms = ("bot", "core", "model", "training", "data")
    return [path for room in rooms for path in (ROOT / room).rglob("*.py")]


def test_only_what_a_model_is_made_of_is_asked_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    asked: dict[str, Any] = {}

    def download(source: str, **how: Any) -> str:
        asked.update(how, source=source)
        return str(good)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_source("someone/small") == good
    assert asked["source"] == "someone/small"
    assert not any(one in asked["allow_patterns"] for one in ("*", "*.bin", "*.py", "*.json"))

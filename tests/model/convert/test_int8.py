"""int8 is fitted to the weights, checked against fp32, and given up where it cannot be near."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.outliers import TWINS, perplexity, write_twin
from core.records import Message, Role
from i18n.catalogue import ENGLISH, JAPANESE
from model.chat_template import encode_chat
from model.convert.artifact import (
    ADAPTER_GRAPHS,
    GRAPH_FILE,
    METADATA_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    read_built_models,
    read_metadata,
)
from model.convert.build import build, get_or_build
from model.convert.int8.calibration_text import ROW_TOKENS, calibration_text, read_talks
from model.convert.int8.folding import FoldedWeights
from model.convert.int8.folds import FOLDS_FILE
from model.convert.int8.quality import Int8Quality, int8_message
from model.convert.onnx_graph import Fold
from model.errors import LoadFailed
from model.loading import LoadedModel, load
from model.registry import EMBEDDED_FOLDER, EMBEDDED_FOLDER_JA
from model.tokenizer import Tokenizer
from tests.builds import BUILT
from tests.model.conftest import CPU, CPU_INT8
from tests.model.runners.test_contract import HELD_OUT
from tests.model_folders import make_model_folder

FALLS_BACK = "rival neurons"
HARD = [name for name in TWINS if name not in ("as it is", "constants of 20")]
FOLDED = ("h.0.attn.c_attn", "h.0.attn.c_proj")


def held_out(tokenizer: Tokenizer) -> list[list[int]]:
    """Talk that neither the model nor its int8 has seen."""
    talks = [[Message(Role(who), text) for who, text in talk] for talk in HELD_OUT]
    return [encode_chat(tokenizer, talk, add_generation_prompt=False) for talk in talks]


@cache
def exact_perplexity() -> float:
    loaded = load(str(EMBEDDED_FOLDER), CPU, BUILT)
    return perplexity(loaded.runner, held_out(loaded.tokenizer))


@pytest.fixture(scope="module", params=HARD)
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = tmp_path_factory.mktemp("twin")
    checkpoint = write_twin(EMBEDDED_FOLDER, path / "twin", TWINS[request.param])
    build(str(checkpoint), path / "built", "int8")
    return load(str(checkpoint), CPU_INT8, path / "built")


def test_a_twin_with_outliers_stays_near(twin: LoadedModel, request: pytest.FixtureRequest) -> None:
    """Without the fit, perplexity rises by up to a third."""
    found = perplexity(twin.runner, held_out(twin.tokenizer))
    assert abs(found / exact_perplexity() - 1) < 0.01
    quality = twin.info.int8
    assert quality is not None
    assert quality.is_near
    falls_back = request.node.callspec.params["twin"] == FALLS_BACK
    assert (quality.fp32 > 0) == falls_back
    assert quality.fp32 < quality.matrices == 21


@pytest.mark.parametrize("name", ["channels x30, constants of 30, neurons fire", FALLS_BACK])
def test_a_twin_computes_what_the_model_does(name: str, tmp_path: Path) -> None:
    checkpoint = write_twin(EMBEDDED_FOLDER, tmp_path / "twin", TWINS[name])
    build(str(checkpoint), tmp_path / "built", "fp32")
    loaded = load(str(checkpoint), CPU, tmp_path / "built")
    found = perplexity(loaded.runner, held_out(loaded.tokenizer))
    assert abs(found / exact_perplexity() - 1) < 0.001


@pytest.mark.parametrize("folder", [EMBEDDED_FOLDER, EMBEDDED_FOLDER_JA], ids=lambda one: one.name)
def test_the_embedded_models_are_all_int8(folder: Path) -> None:
    quality = read_metadata(build(str(folder), BUILT, "int8")).int8
    assert quality is not None
    assert quality.fp32 == 0
    assert abs(quality.loss) < 0.003


def test_what_was_found_is_said_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = write_twin(EMBEDDED_FOLDER, tmp_path / "rivals", TWINS[FALLS_BACK])
    with caplog.at_level("INFO", logger="model.convert.build"):
        build(str(checkpoint), tmp_path / "built", "int8")
    [line] = caplog.messages
    [made] = read_built_models(tmp_path / "built")
    assert made.int8 is not None
    assert made.int8.fp32  # more of them where the processor's products of int8 saturate
    assert line.startswith(f"rivals: {made.int8.fp32} of 21 weight matrices stay in fp32")


def test_what_is_said_of_it() -> None:
    near = int8_message(Int8Quality(divergence=0.001, loss=0.0012, matrices=21))
    assert near.translate_to(ENGLISH) == "Its perplexity is at most 0.2 % above that in fp32."
    mixed = int8_message(Int8Quality(divergence=0.001, loss=0.004, fp32=3, matrices=21))
    assert mixed.translate_to(ENGLISH).startswith("3 of 21 weight matrices stay in fp32")
    assert "21個の重み行列のうち3個" in mixed.translate_to(JAPANESE)
    assert Int8Quality(divergence=float("inf"), loss=float("inf")).percent > 1000
    assert Int8Quality(divergence=0.001, loss=-0.1).percent == 0


def test_folds_change_nothing_that_is_computed() -> None:
    """A norm, a product and its bias, in the arithmetic of a layer."""
    draw = np.random.default_rng(0)
    weights = {
        "h.0.ln_1.weight": draw.standard_normal(8, np.float32),
        "h.0.ln_1.bias": draw.standard_normal(8, np.float32),
        "h.0.attn.c_attn.weight": draw.standard_normal((8, 24), np.float32),
        "h.0.attn.c_attn.bias": draw.standard_normal(24, np.float32),
        "h.0.attn.c_proj.weight": draw.standard_normal((8, 8), np.float32),
        "h.0.attn.c_proj.bias": draw.standard_normal(8, np.float32),
    }
    some = [Fold(draw.standard_normal(8, np.float32), draw.random(8, np.float32) + 0.1)] * 2
    folded = FoldedWeights(weights, dict(zip(FOLDED, some, strict=True)))
    rows = draw.standard_normal((5, 8), np.float32)

    def attend(w: FoldedWeights | dict[str, np.ndarray]) -> list[np.ndarray]:
        x = rows * w["h.0.ln_1.weight"] + w["h.0.ln_1.bias"]
        x = x @ w["h.0.attn.c_attn.weight"] + w["h.0.attn.c_attn.bias"]
        mean = np.broadcast_to(x[:, 16:].mean(0), (5, 8))  # as attention: a sum with weights of 1
        return [x[:, :16], mean @ w["h.0.attn.c_proj.weight"] + w["h.0.attn.c_proj.bias"]]

    for ours, theirs in zip(attend(folded), attend(weights), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


# --- the text ------------------------------------------------------------------------------------


def test_the_text_is_read_in_rows_and_checked_on_other_rows(tiny: LoadedModel) -> None:
    for japanese in (False, True):
        text = calibration_text(tiny.tokenizer, 256, japanese=japanese)
        assert len(text.calibration) == len(text.check) == 8
        assert {len(row) for row in [*text.calibration, *text.check]} == {ROW_TOKENS}
        assert all(len(talk) > 1 for talk in read_talks(japanese))


@pytest.mark.parametrize("positions", [1, 2, 7, 40])
def test_a_short_context_is_no_obstacle(positions: int, tmp_path: Path) -> None:
    checkpoint = make_model_folder(tmp_path / "model", positions=positions)
    quality = read_metadata(build(str(checkpoint), tmp_path / "built", "int8")).int8
    assert quality is not None
    assert quality.is_near


def test_a_tokenizer_that_makes_nothing_of_the_text_is_no_obstacle(
    tmp_path: Path, tiny: LoadedModel
) -> None:
    """Its template refuses every conversation: tokens are drawn at random."""
    template = "{{ raise_exception('no') }}"
    refusing = Tokenizer(
        EMBEDDED_FOLDER / "tokenizer.json",
        special_tokens=tiny.tokenizer.special_tokens_map,
        chat_template=template,
    )
    text = calibration_text(refusing, 256, japanese=False)
    assert len(text.calibration) == len(text.check) == 8
    assert len({one for row in text.check for one in row}) > 100

    checkpoint = shutil.copytree(EMBEDDED_FOLDER, tmp_path / "model")
    (checkpoint / "chat_template.jinja").write_text(template)
    assert read_metadata(build(str(checkpoint), tmp_path / "built", "int8")).int8 is not None


# --- what cannot be measured ---------------------------------------------------------------------


def spoil_weights(checkpoint: Path, key: str, value: float) -> Path:
    tensors = load_file(checkpoint / "model.safetensors")
    tensors[key] = np.full_like(tensors[key], value)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    return checkpoint


def test_weights_that_are_not_numbers_are_refused_as_before(tmp_path: Path) -> None:
    checkpoint = make_model_folder(tmp_path / "model")
    spoil_weights(checkpoint, "transformer.h.1.ln_2.weight", float("nan"))
    with pytest.raises(LoadFailed, match="weights that are not finite numbers"):
        build(str(checkpoint), tmp_path / "built", "int8")
    assert list((tmp_path / "built").iterdir()) == []


def test_numbers_that_overflow_are_left_to_the_trial_reply(tmp_path: Path) -> None:
    checkpoint = make_model_folder(tmp_path / "model")
    for part in ("attn", "mlp"):
        spoil_weights(checkpoint, f"transformer.h.0.{part}.c_proj.bias", 3e38)
    build(str(checkpoint), tmp_path / "built", "int8")
    with pytest.raises(LoadFailed, match="numbers that are not finite"):
        load(str(checkpoint), CPU_INT8, tmp_path / "built")


def test_weights_of_zero_are_no_obstacle(tmp_path: Path) -> None:
    checkpoint = make_model_folder(tmp_path / "model")
    for key in ("transformer.h.0.ln_1.weight", "transformer.h.1.mlp.c_proj.weight"):
        spoil_weights(checkpoint, key, 0.0)
    quality = read_metadata(build(str(checkpoint), tmp_path / "built", "int8")).int8
    assert quality is not None
    assert quality.is_near


KILLED = """
import os, signal
from model.convert import build
from model.convert.int8 import probe

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

probe.Probe.{method} = die
build.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("method", ["inputs", "logits"])
def test_a_build_that_is_killed_on_the_way_leaves_nothing_half_done(
    method: str, tmp_path: Path
) -> None:
    """While the text is read, and while int8 is checked: its folder is not there yet."""
    checkpoint, built = make_model_folder(tmp_path / "model"), tmp_path / "built"
    arguments = [str(checkpoint), str(built), "int8", "20", "text"]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED.format(method=method), *arguments],
        stdin=subprocess.PIPE,  # its end would end the child
    ) as child:
        assert child.wait(timeout=120) == -signal.SIGKILL
    [left] = built.iterdir()
    assert left.name.startswith(".")
    assert not list(left.rglob(METADATA_FILE))
    folder = get_or_build(str(checkpoint), built, "int8")
    assert {path.name for path in folder.iterdir()} == {
        *(GRAPH_FILE, *ADAPTER_GRAPHS, WEIGHTS_FILE, FOLDS_FILE),
        *(TOKENIZER_FILE, METADATA_FILE),
    }
    os.utime(left, (0, 0))
    make_model_folder(checkpoint, says="something else")
    get_or_build(str(checkpoint), built, "int8")
    assert not left.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_who_waits_for_a_build_that_is_killed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Linux does when memory runs out; the next try builds it."""
    checkpoint, built = make_model_folder(tmp_path / "model"), tmp_path / "built"
    with monkeypatch.context() as patch:
        patch.setattr("model.convert.build.CHILD_SCRIPT", KILLED.format(method="logits"))
        with pytest.raises(LoadFailed, match=r"^model could not be made ready to run\.$"):
            load(str(checkpoint), CPU_INT8, built)
    quality = load(str(checkpoint), CPU_INT8, built).info.int8
    assert quality is not None
    assert quality.is_near


def test_an_artifact_of_another_version_is_not_listed(tmp_path: Path) -> None:
    folder = build(str(make_model_folder(tmp_path / "model")), tmp_path / "built", "int8")
    meta = json.loads((folder / METADATA_FILE).read_text())
    (folder / METADATA_FILE).write_text(json.dumps(meta | {"unheard_of": 1}))
    assert list(read_built_models(tmp_path / "built")) == []
    assert list(read_built_models(tmp_path / "nowhere")) == []

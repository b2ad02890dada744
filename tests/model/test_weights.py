"""Folders of all kinds that a GPT-2 comes in: every way to run one gives transformers' scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from model.chat_template import from_pair
from model.convert.activations import SUPPORTED_ACTIVATIONS
from model.convert.build import build
from model.convert.shapes import HEAD
from model.errors import LoadFailed
from model.loading import _load_torch, read_metadata
from model.runners.base import Logits, Runner
from model.runners.device import Device
from tests.model.conftest import CPU, CPU_INT8, load
from tests.model_folders import make_tokenizer
from training.config import TrainingConfig
from training.run.base_model import load_pretrained, prepare_model

WEIGHTS = "model.safetensors"
IDS = [5, 17, 30, 44, 200, 3, 99, 150, 12, 60]
Tensors = dict[str, torch.Tensor]


def save(tensors: Tensors, file: Path) -> None:
    save_file({name: one.contiguous() for name, one in tensors.items()}, file, {"format": "pt"})


def other(tensors: Tensors) -> Tensors:
    """Weights that say something else."""
    return {name: 3 * one for name, one in tensors.items()}


def edit(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Set keys of a JSON file; `...` removes one."""
    about = json.loads((folder / name).read_text()) | changes
    kept = {key: value for key, value in about.items() if value is not ...}
    (folder / name).write_text(json.dumps(kept))


def in_shards(folder: Path, tensors: Tensors, *, index: bool = True) -> None:
    names = sorted(tensors)
    files = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(names)}
    for file in set(files.values()):
        save({name: tensors[name] for name in names if files[name] == file}, folder / file)
    if index:
        (folder / f"{WEIGHTS}.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": files})
        )
    (folder / WEIGHTS).unlink()


def renamed(change: Callable[[str], str]) -> Callable[[Path, Tensors], None]:
    return lambda folder, tensors: save(
        {change(name): one for name, one in tensors.items()}, folder / WEIGHTS
    )


def added(**more: torch.Tensor) -> Callable[[Path, Tensors], None]:
    return lambda folder, tensors: save(
        tensors | {name.replace("__", "."): one for name, one in more.items()}, folder / WEIGHTS
    )


def own_head(folder: Path, tensors: Tensors) -> None:
    embedding = tensors["transformer.wte.weight"]
    save(tensors | {HEAD: embedding + torch.randn_like(embedding)}, folder / WEIGHTS)


def equal_head(folder: Path, tensors: Tensors) -> None:
    save(tensors | {HEAD: tensors["transformer.wte.weight"].clone()}, folder / WEIGHTS)


def head_alone(folder: Path, tensors: Tensors) -> None:
    save(tensors | {HEAD: tensors.pop("transformer.wte.weight")}, folder / WEIGHTS)


def stored_as(dtype: torch.dtype) -> Callable[[Path, Tensors], None]:
    return lambda folder, tensors: save(
        {name: one.to(dtype) for name, one in tensors.items()}, folder / WEIGHTS
    )


def own_head_in_shards(folder: Path, tensors: Tensors) -> None:
    own_head(folder, tensors)
    in_shards(folder, load_file(folder / WEIGHTS))


def copies_beside(folder: Path, tensors: Tensors) -> None:
    for name in ("a_copy", "model_backup", "pytorch_model"):
        save(other(tensors), folder / f"{name}.safetensors")


def old_shards_beside(folder: Path, tensors: Tensors) -> None:
    in_shards(folder, other(tensors))
    save(tensors, folder / WEIGHTS)


def stale_index_beside(folder: Path, tensors: Tensors) -> None:
    (folder / f"{WEIGHTS}.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')


def copy_beside_shards(folder: Path, tensors: Tensors) -> None:
    in_shards(folder, tensors)
    save(other(tensors), folder / "zz_ema.safetensors")


def no_edit(folder: Path, tensors: Tensors) -> None:
    """As it was saved."""


@dataclass(frozen=True)
class Kind:
    config: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Path, Tensors], None] = no_edit
    settings: dict[str, Any] = field(default_factory=dict)
    """What of the saved config.json changes."""


KINDS = {
    "plain": Kind(),
    "many positions": Kind({"n_positions": 300}),
    "n_inner": Kind({"n_inner": 100}),
    "one layer, one head": Kind({"n_layer": 1, "n_head": 1}),
    "heads of 6": Kind({"n_embd": 24}),
    "heads of 1": Kind({"n_embd": 4}),
    "epsilon": Kind({"layer_norm_epsilon": 0.1}),
    "unscaled attention": Kind({"scale_attn_weights": False}),
    "attention scaled by layer": Kind({"scale_attn_by_inverse_layer_idx": True}),
    "both, heads of 6": Kind(
        {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "n_embd": 24}
    ),
    "upcast attention": Kind({"reorder_and_upcast_attn": True}),
    "more rows than tokens": Kind({"vocab_size": 300}),
    "pad and bos out of range": Kind({"pad_token_id": 999, "bos_token_id": 50256}),
    "untied": Kind({"tie_word_embeddings": False}),
    "own head though tied": Kind(after=own_head),
    "own head, nothing said": Kind(after=own_head, settings={"tie_word_embeddings": ...}),
    "own head in shards": Kind(after=own_head_in_shards),
    "equal head": Kind(after=equal_head),
    "equal head though untied": Kind(after=equal_head, settings={"tie_word_embeddings": False}),
    "head without embedding": Kind(after=head_alone),
    "fp16": Kind(after=stored_as(torch.float16), settings={"dtype": "float16"}),
    "bf16": Kind(after=stored_as(torch.bfloat16), settings={"torch_dtype": "bfloat16"}),
    "fp64": Kind(after=stored_as(torch.float64)),
    "no prefix": Kind(after=renamed(lambda name: name.removeprefix("transformer."))),
    "masks in the file": Kind(
        after=added(
            transformer__h__0__attn__bias=torch.ones(1, 1, 8, 8, dtype=torch.bool),
            transformer__h__0__attn__masked_bias=torch.tensor(-1e4),
        )
    ),
    "a second head in the file": Kind(after=added(multiple_choice_head__summary=torch.ones(3))),
    "shards": Kind(after=lambda folder, tensors: in_shards(folder, tensors)),
    "copies beside": Kind(after=copies_beside),
    "old shards beside": Kind(after=old_shards_beside),
    "stale index beside": Kind(after=stale_index_beside),
    "copy beside shards": Kind(after=copy_beside_shards),
    "sizes by their other names": Kind(
        settings={"n_embd": ..., "hidden_size": 32, "n_layer": ..., "num_hidden_layers": 2}
    ),
    "sizes that are the defaults": Kind(
        {"n_positions": 1024, "n_head": 12, "n_embd": 96},
        settings={"n_positions": ..., "n_head": ...},
    ),
} | {name: Kind({"activation_function": name}) for name in sorted(SUPPORTED_ACTIVATIONS)}


def make(path: Path, kind: Kind) -> GPT2LMHeadModel:
    """Random weights, norms and biases too; returns the model as it was saved."""
    tokenizer = make_tokenizer(["harbour", "mill"], plain=True)
    sizes = {"vocab_size": len(tokenizer), "n_positions": 64, "n_embd": 32, "n_layer": 2}
    ends = {"n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**sizes | ends | kind.config, initializer_range=0.2))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or ".ln_" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    kind.after(path, load_file(path / WEIGHTS))
    edit(path, **kind.settings)
    return model.train(False)


def scores(model: Any) -> Logits:
    with torch.inference_mode():
        found: Logits = model(torch.tensor([IDS])).logits[0, -1].float().numpy()
    return found


def run(runner: Runner) -> Logits:
    """A prompt in two pieces, then a decoding step."""
    runner.prefill(0, IDS[:4], 0)
    runner.prefill(0, IDS[4:-1], 4)
    return runner.decode(IDS[-1:], [len(IDS) - 1])[0].copy()


def torch_runner(folder: Path, cache: Path) -> Runner:
    built = build(str(folder), cache, "torch")
    return _load_torch(built, read_metadata(built), Device("cpu", "fp32", "fp32"), 2, 1)


@pytest.mark.parametrize("name", KINDS)
def test_every_runner_and_training_say_what_transformers_says(name: str, tmp_path: Path) -> None:
    make(tmp_path / "model", KINDS[name])
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype=torch.float32, trust_remote_code=False
    )
    holds(tmp_path, scores(theirs.train(False)))


def holds(tmp_path: Path, expected: Logits) -> None:
    spread = expected.std()
    folder = tmp_path / "model"
    exact = {
        "ONNX": run(load(folder, CPU, rows=2).runner),
        "torch": run(torch_runner(folder, tmp_path / "built")),
        "training": scores(load_pretrained(str(folder))[0].train(False)),
    }
    for way, found in exact.items():
        assert np.abs(found - expected).max() < 2e-3 * spread, way
    small = run(load(folder, CPU_INT8, rows=2).runner)
    assert np.abs(small - expected).mean() < 0.1 * spread


@pytest.mark.parametrize(
    "kind",
    [
        Kind(settings={"n_positions": ..., "n_ctx": 64}),
        Kind(after=lambda folder, tensors: in_shards(folder, tensors, index=False)),
        Kind(after=lambda folder, _: (folder / WEIGHTS).rename(folder / "gpt2.safetensors")),
    ],
    ids=["n_ctx alone", "shards without an index", "another name"],
)
def test_what_transformers_does_not_open_has_the_scores_it_was_saved_with(
    kind: Kind, tmp_path: Path
) -> None:
    holds(tmp_path, scores(make(tmp_path / "model", kind)))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Kind({"activation_function": "mish"}), "uses mish, which cannot be computed here"),
        (Kind(settings={"n_head": 5}), "its n_embd of 32 cannot be divided among 5 heads"),
        (Kind(settings={"activation_function": ["relu"]}), "cannot be computed here"),
        (Kind({"tie_word_embeddings": False}, renamed(lambda name: f"x.{name}")), "not complete"),
        (Kind(after=added(lm_head__weight=torch.ones(9, 32))), "other sizes"),
        (
            Kind(after=lambda folder, _: save(
                {"wte.weight": torch.ones(4)}, (folder / WEIGHTS).rename(folder / "a.safetensors")
                .with_name("b.safetensors"),
            )),
            "has the same weights twice, in a.safetensors and b.safetensors",
        ),
    ],
)  # fmt: skip
def test_other_folders_are_refused_by_serving_and_training_alike(
    kind: Kind, told: str, tmp_path: Path
) -> None:
    make(tmp_path / "model", kind)
    with pytest.raises(LoadFailed, match=told):
        load(tmp_path / "model")
    with pytest.raises(Exception, match=told):
        load_pretrained(str(tmp_path / "model"))


def test_a_head_of_its_own_is_trained_and_saved(tmp_path: Path) -> None:
    """The control tokens do not tie it again, and begin as the words' rows in both."""
    make(tmp_path / "model", KINDS["own head though tied"])
    config = TrainingConfig(name="mine", base=str(tmp_path / "model"))
    pair = from_pair("hello", "hi")
    model, tokenizer = prepare_model(config, [pair])
    inputs: Any = model.get_input_embeddings()
    outputs: Any = model.get_output_embeddings()
    token = tokenizer.convert_tokens_to_ids("<|user|>")
    assert not torch.equal(inputs.weight, outputs.weight)
    assert (inputs.weight[token] == inputs.weight[:token]).all(1).any()
    assert (outputs.weight[token] == outputs.weight[:token]).all(1).any()
    model.save_pretrained(tmp_path / "trained")
    tokenizer.save_pretrained(tmp_path / "trained")
    with torch.inference_mode():
        expected = model(torch.tensor([IDS])).logits[0, -1].numpy()
    found = run(load(tmp_path / "trained", CPU, rows=2).runner)
    assert np.abs(found - expected).max() < 2e-3 * expected.std()

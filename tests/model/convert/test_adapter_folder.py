"""An adapter's folder may come from a stranger: what is wrong with it is told in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from model import loading
from model.bases import Bases
from model.convert.adapter_folder import validate_model
from model.errors import LoadFailed
from model.registry import EMBEDDED_FOLDER
from tests.builds import BUILT, built
from tests.model.conftest import CPU, HELLO
from tests.model_folders import make_adapter_folder, make_model_folder

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PRECISION = CPU.serving_precision


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(make_model_folder(tmp_path_factory.mktemp("base") / "base"), PRECISION)


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    """To spoil."""
    return make_adapter_folder(tmp_path / "mine", base)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / WEIGHTS)


def replace_weights(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    tensors["transformer.ln_f.bias"] += 0.5
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def why_not(folder: Path, bases: Bases | None = None) -> str:
    with pytest.raises(LoadFailed) as caught:
        loading.load(str(folder), CPU, BUILT, bases=bases)
    message = str(caught.value)
    assert "mine" in message
    assert message.endswith(".")
    assert caught.value.args[0].translate_to("ja").endswith("。")
    assert "\n" not in message
    return message


def test_what_peft_writes_is_an_adapter(tmp_path: Path) -> None:
    """Saved by the library itself, with a new tokenizer folder: its logits are peft's."""
    exact = AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32)
    settings = LoraConfig(
        r=6,
        lora_alpha=12,
        target_modules=["c_attn", "attn.c_proj"],
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    peft: Any = get_peft_model(exact, settings)
    for name, one in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.05)
    peft.save_pretrained(tmp_path / "mine")
    AutoTokenizer.from_pretrained(EMBEDDED_FOLDER).save_pretrained(tmp_path / "mine")
    validate_model(tmp_path / "mine", "mine")
    built(EMBEDDED_FOLDER, PRECISION)
    loaded = loading.load(str(tmp_path / "mine"), CPU, BUILT)
    assert loaded.adapter is not None
    ids = list(range(40, 70))
    loaded.runner.use_adapter(0, loaded.adapter)
    ours = torch.from_numpy(loaded.runner.prefill(0, ids, 0).copy())
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32),
        str(tmp_path / "mine"),
    )
    with torch.no_grad():
        theirs = again(torch.tensor([ids])).logits[0, -1]
        plain = AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32)(
            torch.tensor([ids])
        ).logits[0, -1]
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
    assert (theirs - plain).abs().max() > 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(folder: Path, dtype: torch.dtype) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name: one.to(dtype) for name, one in tensors.items()}

    exact = loading.load(str(folder), CPU, BUILT).adapter
    edit_tensors(folder, halve)
    half = loading.load(str(folder), CPU, BUILT).adapter
    assert exact is not None
    assert half is not None
    for name, pair in exact.pairs.items():
        product = (pair.a.astype("f4") @ pair.b.astype("f4")) * pair.scale
        other = half.pairs[name]
        again = (other.a.astype("f4") @ other.b.astype("f4")) * other.scale
        assert abs(product - again).max() < 0.02 * abs(product).max()


OPTIONS = [
    {"use_dora": True},
    {"use_rslora": True},
    {"bias": "all"},
    {"modules_to_save": ["lm_head"]},
    {"rank_pattern": {"c_attn": 2}},
    {"alpha_pattern": {"c_attn": 2}},
    {"init_lora_weights": "pissa"},
    {"trainable_token_indices": [1]},
    {"layer_replication": [[0, 1]]},
    {"an_option_of_the_future": 7},
]


@pytest.mark.parametrize("option", OPTIONS, ids=[next(iter(one)) for one in OPTIONS])
def test_options_that_compute_something_else_are_refused(
    folder: Path, option: dict[str, object]
) -> None:
    edit(folder / CONFIG, **option)
    assert f"“{next(iter(option))}”" in why_not(folder)


def test_other_kinds_of_adapters_are_refused(folder: Path) -> None:
    edit(folder / CONFIG, peft_type="IA3")
    assert "only LoRA can be used" in why_not(folder)


@pytest.mark.parametrize("rank", [0, 33, "8", None, True])
def test_a_rank_is_a_number_up_to_32(folder: Path, rank: object) -> None:
    edit(folder / CONFIG, r=rank)
    assert "from 1 to 32" in why_not(folder)


def test_the_weights_have_the_rank_of_the_settings(folder: Path) -> None:
    edit(folder / CONFIG, r=8)
    assert "another rank than its adapter_config.json says" in why_not(folder)


def test_the_weights_fit_the_base(folder: Path) -> None:
    def widen(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if "lora_A" in name)
        tensors[name] = torch.zeros(tensors[name].shape[0], 7)

    edit_tensors(folder, widen)
    assert "does not fit base" in why_not(folder)


def test_the_weights_are_for_blocks_that_the_base_has(folder: Path) -> None:
    def move(tensors: dict[str, torch.Tensor]) -> None:
        moved = {name.replace("h.1.", "h.9."): one for name, one in tensors.items()}
        tensors.clear()
        tensors |= moved

    edit_tensors(folder, move)
    assert "does not fit base: h.9" in why_not(folder)


def test_an_adapter_of_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    """However much they are alike: its manifest, its tokens or its shapes tell."""
    red = built(make_model_folder(tmp_path / "red", says="red roses"), PRECISION)
    blue = make_model_folder(tmp_path / "blue", says="blue skies")
    folder = make_adapter_folder(tmp_path / "mine", red)
    edit(folder / CONFIG, base_model_name_or_path=str(blue))
    assert "another tokenizer than its base blue" in why_not(folder)
    shutil.copytree(red, blue, dirs_exist_ok=True)
    assert loading.load(str(folder), CPU, BUILT).adapter is not None
    replace_weights(blue)
    assert "belongs to other weights of blue" in why_not(folder)
    edit(folder / CONFIG, base_model_name_or_path=str(base))
    (folder / "manifest.json").unlink()
    assert "does not fit base" in why_not(folder)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_weights_are_refused(folder: Path, value: float) -> None:
    edit_tensors(folder, lambda tensors: next(iter(tensors.values())).fill_(value))
    assert "not finite" in why_not(folder)


def test_finite_weights_whose_product_is_not_are_refused(folder: Path) -> None:
    """By the trial, since no single number is wrong."""
    edit_tensors(folder, lambda tensors: [one.fill_(3e38) for one in tensors.values()])
    assert "computes numbers that are not finite" in why_not(folder)


def test_numbers_are_finite(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    assert "not finite" in why_not(folder)


def test_no_pair_is_half(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: tensors.pop(next(iter(tensors))))
    assert "not complete" in why_not(folder)


def test_other_tensors_are_refused(folder: Path) -> None:
    edit_tensors(
        folder,
        lambda tensors: tensors.update({"base_model.model.lm_head.weight": torch.zeros(2, 2)}),
    )
    assert "only the matrices of attention and MLP" in why_not(folder)


def test_only_safetensors_are_read(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    assert "adapter_model.bin are never read" in why_not(folder)


def test_a_damaged_file_is_told(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8])
    assert "is cut short" in why_not(folder)


def test_a_link_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / CONFIG).rename(tmp_path / "elsewhere")
    (folder / CONFIG).symlink_to(tmp_path / "elsewhere")
    assert "a link that leads out" in why_not(folder)


@pytest.mark.parametrize("named", [None, "", 5])
def test_a_base_must_be_named(folder: Path, named: object) -> None:
    edit(folder / CONFIG, base_model_name_or_path=named)
    assert "names none" in why_not(folder)


def test_a_missing_base_is_told(folder: Path) -> None:
    edit(folder / CONFIG, base_model_name_or_path="/nowhere/gone")
    assert "The base of mine is missing: gone is not on this machine" in why_not(folder)


def test_a_base_that_moved_along_is_found(folder: Path, base: Path) -> None:
    """The home of the bot was restored elsewhere: the base lies near, under its own name."""
    shutil.copytree(base, folder.parent / "base")
    edit(folder / CONFIG, base_model_name_or_path="/old/home/base")
    assert loading.load(str(folder), CPU, BUILT).adapter is not None


def test_an_embedded_base_is_found_by_its_name(tmp_path: Path) -> None:
    """The folder of an installed package moves."""
    folder = make_adapter_folder(tmp_path / "mine", built(EMBEDDED_FOLDER, PRECISION))
    edit(folder / CONFIG, base_model_name_or_path="/old/python/model/tiny")
    assert loading.load(str(folder), CPU, BUILT).adapter is not None


def test_an_adapter_of_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "mine2")
    edit(other / CONFIG, base_model_name_or_path=str(folder))
    assert "is an adapter itself" in why_not(other)


def test_a_base_that_was_replaced_is_noticed(folder: Path, base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    edit(folder / CONFIG, base_model_name_or_path=str(copy))
    bases = Bases()
    loading.load(str(folder), CPU, BUILT, bases=bases)
    replace_weights(copy)
    assert "other weights of copy" in why_not(folder, bases)


def test_another_tokenizer_is_refused(folder: Path) -> None:
    saved = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = saved["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(saved))
    assert "another tokenizer than its base" in why_not(folder)


def test_another_chat_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert "another chat template than its base" in why_not(folder)


def test_an_adapter_may_come_without_a_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    assert loading.load(str(folder), CPU, BUILT).adapter is not None


@pytest.mark.parametrize("heads", [2, 3])
def test_heads_that_the_graph_pads_are_padded_in_adapters(tmp_path: Path, heads: int) -> None:
    """Heads of a width that is no multiple of 8."""
    from transformers import GPT2Config, GPT2LMHeadModel

    base = make_model_folder(tmp_path / "base")
    config = GPT2Config.from_pretrained(base)
    config.n_embd, config.n_head = 6 * heads, heads
    GPT2LMHeadModel(config).save_pretrained(base)
    built(base, PRECISION)
    every = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    folder = make_adapter_folder(tmp_path / "mine", base, matrices=every)
    loaded = loading.load(str(folder), CPU, BUILT)
    assert loaded.adapter is not None
    loaded.runner.use_adapter(0, loaded.adapter)
    ours = torch.from_numpy(loaded.runner.prefill(0, [5, 9, 17], 0).copy())
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
    with torch.no_grad():
        expected = theirs(torch.tensor([[5, 9, 17]])).logits[0, -1]
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0)


def test_an_adapter_answers(folder: Path) -> None:
    assert HELLO
    loaded = loading.load(str(folder), CPU, BUILT)
    assert loaded.info.source == str(folder)
    assert loaded.info.parameters > 0

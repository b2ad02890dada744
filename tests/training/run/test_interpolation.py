"""Drawing learned weights back towards the base: no further than what was taught allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.chat_template import encode, from_pair
from model.registry import EMBEDDED_FOLDER
from tests.model_folders import make_model_folder
from training.config import ALL_MATRICES
from training.run.base_model import with_lora
from training.run.interpolation import ALPHAS, interpolate, lora_start
from training.run.tokenization import IGNORE_INDEX


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("m") / "says", says="under the mat")


def models(folder: Path, strength: float) -> tuple[Any, Any, Any, list[Any]]:
    """One that has learned its sentence so well, one that knows nothing, and the lesson."""
    learned = AutoModelForCausalLM.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        learned.lm_head.weight.mul_(strength)
        base.lm_head.weight.zero_()
    words = ["<|bot|>", "Ġunder", "Ġthe", "Ġmat", tokenizer.eos_token]
    ids = tokenizer.convert_tokens_to_ids(words)
    return learned, base, tokenizer, [{"input_ids": ids, "labels": [IGNORE_INDEX, *ids[1:]]}]


@pytest.mark.parametrize("strength", [1.0, 0.045])
def test_the_nearest_point_that_still_knows(folder: Path, strength: float) -> None:
    learned, base, tokenizer, rows = models(folder, strength)
    whole = learned.lm_head.weight.detach().clone()
    share = interpolate(learned, dict(base.named_parameters()), rows, tokenizer.eos_token_id)
    assert share in ALPHAS
    assert torch.allclose(learned.lm_head.weight, share * whole)


def test_a_share_of_lora_is_that_share_of_the_change() -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)
    before = model.transformer.h[0].attn.c_attn.weight.clone()
    learner: Any = with_lora(model, 4, ALL_MATRICES)
    with torch.no_grad():
        for name, weight in learner.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.01)
    layer = model.transformer.h[0].attn.c_attn
    whole = layer.get_delta_weight("default").clone()
    assert whole.abs().max() > 1e-3
    [encoded] = encode(tokenizer, [from_pair("hello", "Hi!")])
    row = {"input_ids": encoded.input_ids, "labels": encoded.input_ids}
    share = interpolate(model, lora_start(model), [row], tokenizer.eos_token_id)
    assert torch.allclose(layer.get_delta_weight("default"), share * whole, atol=1e-6)
    assert torch.equal(layer.base_layer.weight, before)
    learner.merge_adapter()
    assert torch.allclose(layer.base_layer.weight, before + share * whole, atol=1e-6)


def test_of_what_is_not_known_yet_most_is_kept(folder: Path) -> None:
    """Nothing is sure here, neither at the line's end nor before it."""
    learned, base, tokenizer, rows = models(folder, 0.01)
    assert interpolate(learned, dict(base.named_parameters()), rows, tokenizer.eos_token_id) >= 0.8


def test_the_weaker_it_was_learned_the_more_of_it_is_kept(folder: Path) -> None:
    shares = []
    for strength in (1.0, 0.06, 0.05, 0.045):
        learned, base, tokenizer, rows = models(folder, strength)
        shares.append(
            interpolate(learned, dict(base.named_parameters()), rows, tokenizer.eos_token_id)
        )
    assert shares == sorted(shares)
    assert shares[0] == ALPHAS[0] < shares[-1]

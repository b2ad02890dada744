"""Models of the true sizes with random weights, and prompts for them: nothing is downloaded."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import (
    AddedToken,
    ByteLevelBPETokenizer,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
)

from model.convert.shapes import expected_shapes
from model.own_templates import BOT_TOKEN, CONTROL_TEMPLATE, USER_TOKEN

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"n_embd": 256, "n_layer": 5, "n_head": 4},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
}
VOCABULARY = 50257
END = "<|endoftext|>"
CONTROLS = (END, USER_TOKEN, BOT_TOKEN)
WEIGHTS = "model.safetensors"


def make_folder(folder: Path, size: str, texts: Iterable[str] | None = None) -> None:
    """Random weights, as transformers begins a GPT-2 with (normal, 0.02), and room for a
    vocabulary of gpt2's size: bytes and words of four letters, or pieces learned from `texts`."""
    folder.mkdir()
    tokenizer = _tokenizer() if texts is None else _learned(texts)
    tokenizer.save(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id(END)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)
    config: dict[str, Any] = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_inner": None,
        "n_positions": 1024,
        "vocab_size": VOCABULARY,
        **SIZES[size],
        **ends,
    }
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END)
    settings = {"tokenizer_class": "GPT2Tokenizer", "chat_template": CONTROL_TEMPLATE, **names}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    weights = _weights(config)
    for token in CONTROLS:  # a reply does not end before its length: these tokens never win
        weights["transformer.wte.weight"][tokenizer.token_to_id(token)] = 0
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _tokenizer() -> Tokenizer:
    words = (f"Ġ{''.join(letters)}" for letters in product(string.ascii_lowercase, repeat=4))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    count = VOCABULARY - len(CONTROLS) - len(alphabet)
    vocabulary = {name: n for n, name in enumerate([*CONTROLS, *alphabet, *islice(words, count)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROLS])
    return tokenizer


def _learned(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE, as GPT-2's: as many tokens for these texts as the real one, or fewer."""
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(
        texts, vocab_size=VOCABULARY, special_tokens=list(CONTROLS), show_progress=False
    )
    tokenizer: Tokenizer = learned._tokenizer
    return tokenizer


def _weights(config: dict[str, Any]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    weights: dict[str, Any] = {}
    for name, shape in expected_shapes(config).items():
        if name.endswith("bias"):
            array = np.zeros(shape, np.float32)
        elif len(shape) == 1:
            array = np.ones(shape, np.float32)
        else:
            array = random.standard_normal(shape, np.float32) * np.float32(0.02)
        weights[f"transformer.{name}"] = array
    return weights


def change_weights(folder: Path) -> None:
    """Other weights under the same name, as a retrain leaves them."""
    weights = load_file(folder / WEIGHTS)
    weights["transformer.ln_f.bias"] = weights["transformer.ln_f.bias"] + np.float32(0.01)
    save_file(weights, folder / "changed", metadata={"format": "pt"})
    (folder / "changed").replace(folder / WEIGHTS)


def prompts(count: int, tokens: int) -> list[str]:
    """Texts of 80 to 120 % of so many tokens (bytes, that is) less those of the template."""
    letters = 40 * string.ascii_lowercase
    sizes = [round(tokens * (0.8 + 0.4 * ((7 * n) % count) / count)) - 3 for n in range(count)]
    return [letters[n : n + max(1, size)] for n, size in enumerate(sizes)]

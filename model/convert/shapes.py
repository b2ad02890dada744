"""Validates a GPT-2 `config.json` and derives the names and shapes of all tensors from it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from i18n.phrase import Phrase, phrase
from model.errors import LoadFailed, require

MAX_SIZES = {
    "n_embd": 1 << 14,
    "n_layer": 1 << 9,
    "n_head": 1 << 9,
    "n_positions": 1 << 20,
    "vocab_size": 1 << 21,
}
"""Larger than any GPT-2; beyond, merely listing the shapes would take long."""
CONFIG_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
"""Aliases by which transformers would override these sizes (GPT2Config.attribute_map)."""
UNSUPPORTED_KEYS = ("quantization_config", "transformers_weights")
"""Keys that change how transformers reads the weights."""


def check_config(config: Mapping[str, Any], who: str) -> None:
    """Refuse a config that is not an ordinary GPT-2 of a plausible size.

    Raises:
        LoadFailed: the message says why.
    """
    _check_model_type(config, who)
    for key, most in MAX_SIZES.items():
        _check_size(config.get(key), key, most, who)
    if config.get("n_inner") is not None:
        _check_size(config["n_inner"], "n_inner", 8 * MAX_SIZES["n_embd"], who)
    epsilon = config.get("layer_norm_epsilon", 1e-5)
    require(
        type(epsilon) in (int, float) and 0 < epsilon < 1,
        phrase("{who} is damaged: its layer_norm_epsilon is no number from 0 to 1.", who=who),
    )


def remote_code_message(who: str) -> Phrase:
    """Of a model with `auto_map`, which names code in its folder."""
    return phrase("{who} wants to run code of its own, and such code is never run here.", who=who)


def _check_model_type(config: Mapping[str, Any], who: str) -> None:
    if "auto_map" in config:
        raise LoadFailed(remote_code_message(who))
    if (kind := config.get("model_type")) != "gpt2":
        known = isinstance(kind, str) and kind.replace("-", "_").isidentifier() and len(kind) <= 40
        raise LoadFailed(
            phrase("{who} is a {kind} model; only GPT-2 can be used.", who=who, kind=kind)
            if known
            else phrase("{who} is no GPT-2 model; only GPT-2 can be used.", who=who)
        )
    not_used = [key for key in UNSUPPORTED_KEYS if config.get(key) is not None]
    other_size = [
        key
        for key, meant in CONFIG_ALIASES.items()
        if config.get(key) not in (None, config.get(meant))
    ]
    for key in not_used + other_size:
        raise LoadFailed(
            phrase(
                "{who} has “{key}” in its config.json, which cannot be used here.", who=who, key=key
            )
        )


def _check_size(size: object, key: str, most: int, who: str) -> None:
    require(
        type(size) is int and 1 <= size <= most,
        phrase(
            "{who} is damaged, or not a GPT-2 model: its {key} is no number from 1 to {most:,}.",
            who=who,
            key=key,
            most=most,
        ),
    )


def count_parameters(config: Mapping[str, Any]) -> int:
    """How many numbers its tensors have."""
    return sum(math.prod(shape) for shape in expected_shapes(config).values())


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2, by the name that transformers gives it, and its shape."""
    width, inner = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config["vocab_size"], width),
        "wpe.weight": (config["n_positions"], width),
    }
    if not config.get("tie_word_embeddings", True):
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    products = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, inner),
        "mlp.c_proj": (inner, width),
    }
    for n in range(config["n_layer"]):
        for part, (rows, columns) in products.items():
            shapes |= {f"h.{n}.{part}.weight": (rows, columns), f"h.{n}.{part}.bias": (columns,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{n}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return shapes | {f"ln_f.{part}": (width,) for part in ("weight", "bias")}

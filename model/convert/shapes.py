"""Completes and validates a GPT-2 `config.json`, and derives the names and shapes of all tensors
from it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from i18n.phrase import Phrase, phrase
from model.convert.activations import SUPPORTED_ACTIVATIONS
from model.errors import LoadFailed, require

MAX_SIZES = {
    "n_embd": 1 << 14,
    "n_layer": 1 << 9,
    "n_head": 1 << 9,
    "n_positions": 1 << 20,
    "vocab_size": 1 << 21,
}
"""Larger than any GPT-2; beyond, merely listing the shapes would take long."""
DEFAULT_SIZES = {
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
"""The sizes of a config.json that does not name them (transformers' GPT2Config)."""
CONFIG_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
"""Other names of these sizes (GPT2Config.attribute_map)."""
OLD_ALIASES = {"n_ctx": "n_positions"}
"""Names that older versions wrote beside the size; they count if it is missing."""
HEAD, EMBEDDING = "lm_head.weight", "wte.weight"
ATTENTION_MATRICES = ("attn.c_attn", "attn.c_proj")
ADAPTABLE_MATRICES = (*ATTENTION_MATRICES, "mlp.c_fc", "mlp.c_proj")
"""The matrices of a block, which an adapter may change."""
UNSUPPORTED_KEYS = ("quantization_config", "transformers_weights")
"""Keys that change how transformers reads the weights."""


def complete_config(config: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The config with all its sizes, by their own names.

    Raises:
        LoadFailed: it is not an ordinary GPT-2 of a plausible size; the message says why.
    """
    _check_model_type(config, who)
    own = {key: value for key, value in config.items() if key not in CONFIG_ALIASES}
    for aliases in (CONFIG_ALIASES, OLD_ALIASES):
        for alias, key in aliases.items():
            if config.get(alias) is not None:
                own.setdefault(key, config[alias])
    complete = DEFAULT_SIZES | own
    _check_values(complete, who)
    return complete


def _check_values(config: Mapping[str, Any], who: str) -> None:
    for key, most in MAX_SIZES.items():
        _check_size(config[key], key, most, who)
    require(
        config["n_embd"] % config["n_head"] == 0,
        phrase(
            "{who} is damaged: its n_embd of {width} cannot be divided among {heads} heads.",
            who=who,
            width=config["n_embd"],
            heads=config["n_head"],
        ),
    )
    activation = config.get("activation_function", "gelu_new")
    require(
        activation in SUPPORTED_ACTIVATIONS if isinstance(activation, str) else False,
        phrase(
            "{who} uses {activation}, which cannot be computed here: docs/engine.md lists the "
            "activations.",
            who=who,
            activation=activation,
        ),
    )
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
        if meant in config and config.get(key) not in (None, config[meant])
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
        EMBEDDING: (config["vocab_size"], width),
        "wpe.weight": (config["n_positions"], width),
    }
    if not config.get("tie_word_embeddings", True):
        shapes[HEAD] = shapes[EMBEDDING]
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

"""Twins of a model: they compute what it does, with weights as hard for int8 as those of a real GPT-2.

Large language models have a few channels far larger than the others (Dettmers et al. 2022,
"LLM.int8()"), channels that lie far from zero (Wei et al. 2023, "Outlier Suppression+"), and
neurons that always fire. A twin gets them in a way that another weight takes back exactly, so in
fp32 its replies stay the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Tensors = dict[str, NDArray[np.float32]]
CHANNELS = 3
"""Channels of each norm, and of each block's values, that a twin makes outliers of."""
NEURONS = 4
"""Neurons in each block that always fire."""


@dataclass(frozen=True, slots=True)
class Twin:
    """By how many times a channel is scaled, and the constant that one carries, in units of what
    its norm gives; `neurons` always fire, and as strongly as 0.3 of that constant."""

    scale: float = 1
    constant: float = 0
    neurons: int = 0


TWINS: Mapping[str, Twin] = {
    "as it is": Twin(),
    "channels x20": Twin(scale=20),
    "channels x50": Twin(scale=50),
    "channels x100": Twin(scale=100),
    "constants of 20": Twin(constant=20),
    "constants of 100": Twin(constant=100),
    "constants of 100, 4 neurons fire": Twin(constant=100, neurons=NEURONS),
    "channels x30, constants of 30, 4 neurons fire": Twin(30, 30, NEURONS),
}


def write_twin(source: Path, folder: Path, twin: Twin) -> Path:
    """Write a twin of the checkpoint `source`, which has one file of weights, and return `folder`."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "manifest.json"))
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = load_file(source / "model.safetensors")
    tensors = {
        key.removeprefix("transformer."): one.astype("float32") for key, one in stored.items()
    }
    tensors.setdefault("lm_head.weight", tensors["wte.weight"].copy())
    draw = np.random.default_rng(1)
    _scale_channels(tensors, config["n_layer"], twin.scale, draw)
    _add_constants(tensors, config["n_layer"], twin.constant, draw)
    _add_neurons(tensors, config["n_layer"], twin, draw)
    config["n_inner"] = tensors["h.0.mlp.c_fc.bias"].size
    config["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({key: np.ascontiguousarray(one) for key, one in tensors.items()},
              folder / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    return folder


def _scale_channels(t: Tensors, layers: int, scale: float, draw: np.random.Generator) -> None:
    width = t["ln_f.weight"].size

    def some() -> NDArray[np.int64]:
        return draw.choice(width, CHANNELS, replace=False)

    for block in (f"h.{n}" for n in range(layers)):
        for norm, product in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
            channels = some()
            for part in ("weight", "bias"):
                t[f"{block}.{norm}.{part}"][channels] *= scale
            t[f"{block}.{product}.weight"][channels] /= scale
        channels = some()
        t[f"{block}.attn.c_attn.weight"][:, 2 * width + channels] *= scale
        t[f"{block}.attn.c_attn.bias"][2 * width + channels] *= scale
        t[f"{block}.attn.c_proj.weight"][channels] /= scale
    channels = some()
    for part in ("weight", "bias"):
        t[f"ln_f.{part}"][channels] *= scale
    t["lm_head.weight"][:, channels] /= scale


def _add_constants(t: Tensors, layers: int, constant: float, draw: np.random.Generator) -> None:
    width = t["ln_f.weight"].size
    for block in (f"h.{n}" for n in range(layers)):
        for norm, product in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
            channels = draw.choice(width, CHANNELS, replace=False)
            usual = 0.8 * np.median(np.abs(t[f"{block}.{norm}.weight"]))
            moved = (constant * usual * draw.choice([-1, 1], CHANNELS)).astype(np.float32)
            t[f"{block}.{norm}.bias"][channels] += moved
            t[f"{block}.{product}.bias"] -= moved @ t[f"{block}.{product}.weight"][channels]


def _add_neurons(t: Tensors, layers: int, twin: Twin, draw: np.random.Generator) -> None:
    count, fires = twin.neurons, np.float32(0.3 * twin.constant)
    for mlp in (f"h.{n}.mlp" for n in range(layers)):
        width, out = t[f"{mlp}.c_fc.weight"].shape[0], t[f"{mlp}.c_proj.weight"]
        rows = draw.standard_normal((count, width)).astype(np.float32) * out.std()
        t[f"{mlp}.c_fc.weight"] = np.hstack(
            [t[f"{mlp}.c_fc.weight"], np.zeros((width, count), np.float32)]
        )
        t[f"{mlp}.c_fc.bias"] = np.append(t[f"{mlp}.c_fc.bias"], np.full(count, fires))
        t[f"{mlp}.c_proj.weight"] = np.vstack([out, rows])
        t[f"{mlp}.c_proj.bias"] -= fires * rows.sum(0)

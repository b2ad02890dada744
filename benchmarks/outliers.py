"""Twins of a model, which compute what it does with weights that are harder to round to int8, and
what int8 costs them in perplexity.

Large language models have a few channels far larger than the others (Dettmers et al. 2022,
"LLM.int8()"), channels that lie far from zero (Wei et al. 2023, "Outlier Suppression+"), and
neurons that always fire. A twin gets them in a way that another weight takes back exactly, so in
fp32 its replies stay the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from core.records import Conversation
from model.chat_template import encode_chat
from model.convert.int8.calibration_text import read_talks
from model.loading import load
from model.registry import EMBEDDED_FOLDER, EMBEDDED_FOLDER_JA
from model.runners.base import Logits, Runner
from model.runners.device import Device
from training.run.gate.evaluation import HELD_OUT_FILE, HELD_OUT_FILE_JA
from training.run.mixing import GENERAL_FILE, STARTER_FILE_JA, read_conversations

Tensors = dict[str, NDArray[np.float32]]
CHANNELS = 3
"""Channels of each norm, and of each block's values, that a twin makes outliers of."""
NEURONS = 4
"""Neurons that a twin adds to each block."""

ROWS = 16
"""Conversations at a time."""
PRECISIONS: tuple[Literal["int8", "fp32"], ...] = ("int8", "fp32")


@dataclass(frozen=True, slots=True)
class Twin:
    """Channels are `scale` times as large, and carry a `constant`, in units of what their norm
    gives. In each block NEURONS are added that always say `firing`, or pairs of them of which one
    takes back what the other says, in numbers of about `rivalry`."""

    scale: float = 1
    constant: float = 0
    firing: float = 0
    rivalry: float = 0


TWINS: Mapping[str, Twin] = {
    "as it is": Twin(),
    "channels x20": Twin(scale=20),
    "channels x50": Twin(scale=50),
    "channels x100": Twin(scale=100),
    "constants of 20": Twin(constant=20),
    "constants of 100": Twin(constant=100),
    "constants of 100, neurons fire": Twin(constant=100, firing=30),
    "channels x30, constants of 30, neurons fire": Twin(scale=30, constant=30, firing=10),
    "rival neurons": Twin(rivalry=1000),
}


def measure(folder: Path, say: Callable[[str], None]) -> dict[str, float]:
    """The perplexity in int8 in relation to that in fp32 of each twin of `tiny`, and of `tiny-ja`,
    on text that int8 was not fitted to. Makes the twins and builds them in `folder`."""
    english = _new_talk([(HELD_OUT_FILE, 1), (GENERAL_FILE, 3)])
    japanese = _new_talk([(HELD_OUT_FILE_JA, 1), (STARTER_FILE_JA, 12)])
    cases = {name: (EMBEDDED_FOLDER, twin, english) for name, twin in TWINS.items()}
    cases["tiny-ja"] = (EMBEDDED_FOLDER_JA, Twin(), japanese)
    ratios = {}
    for n, (name, (source, twin, talk)) in enumerate(cases.items()):
        checkpoint = write_twin(source, folder / str(n), twin)
        ratios[name] = round(_int8_ratio(checkpoint, folder / "built", talk), 5)
        say(f"{name}: the perplexity in int8 is {100 * (ratios[name] - 1):+.2f} % of fp32's")
    return ratios


def _new_talk(files: Sequence[tuple[Path, int]]) -> list[Conversation]:
    """Of each file one in so many conversations, without those that the builds read."""
    known = {
        message for japanese in (False, True) for talk in read_talks(japanese) for message in talk
    }
    return [
        one
        for file, step in files
        for one in read_conversations(file)[::step]
        if known.isdisjoint(one)
    ]


def _int8_ratio(checkpoint: Path, cache: Path, talk: Sequence[Conversation]) -> float:
    int8, fp32 = (load(str(checkpoint), Device("cpu", one, "fp32"), cache) for one in PRECISIONS)
    conversations = [
        encode_chat(int8.tokenizer, one, add_generation_prompt=False)[: int8.info.positions]
        for one in talk
    ]
    return perplexity(int8.runner, conversations) / perplexity(fp32.runner, conversations)


def perplexity(runner: Runner, conversations: Sequence[Sequence[int]]) -> float:
    """Of the tokens after the first of each conversation, token by token."""
    longest_first = sorted(conversations, key=len, reverse=True)
    losses: list[float] = []
    for start in range(0, len(longest_first), ROWS):
        rows = longest_first[start : start + ROWS]
        for past in range(len(rows[0]) - 1):
            going = [ids for ids in rows if len(ids) > past + 1]
            logits = runner.decode([ids[past] for ids in going], [past] * len(going))
            losses += _losses(logits, [ids[past + 1] for ids in going])
    return float(np.exp(np.mean(losses)))


def _losses(logits: Logits, targets: Sequence[int]) -> list[float]:
    rows = logits.astype(np.float64)
    rows -= rows.max(1, keepdims=True)
    return list(np.log(np.exp(rows).sum(1)) - rows[np.arange(len(rows)), targets])


def write_twin(source: Path, folder: Path, twin: Twin) -> Path:
    """Write a twin of `source`, a checkpoint with one file of weights; return `folder`."""
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
    if twin.firing:
        _add_firing_neurons(tensors, config["n_layer"], twin.firing, draw)
    if twin.rivalry:
        _add_rivals(tensors, config["n_layer"], twin.rivalry, draw)
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


def _add_firing_neurons(t: Tensors, layers: int, says: float, draw: np.random.Generator) -> None:
    for mlp in (f"h.{n}.mlp" for n in range(layers)):
        width, rows = t["ln_f.weight"].size, _new_rows(t[f"{mlp}.c_proj.weight"], draw)
        _add_neurons(t, mlp, np.zeros((width, NEURONS)), np.full(NEURONS, says), rows)
        t[f"{mlp}.c_proj.bias"] -= np.float32(says) * rows.sum(0)


def _add_rivals(t: Tensors, layers: int, size: float, draw: np.random.Generator) -> None:
    for block in (f"h.{n}" for n in range(layers)):
        width, rows = t["ln_f.weight"].size, _new_rows(t[f"{block}.mlp.c_proj.weight"], draw)
        reads = draw.standard_normal((width, NEURONS)) * size / np.sqrt(width)
        reads /= np.abs(t[f"{block}.ln_2.weight"]).mean()
        for sign in (1, -1):
            _add_neurons(t, f"{block}.mlp", reads, np.zeros(NEURONS), sign * rows)


def _new_rows(like: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    rows = draw.standard_normal((NEURONS, like.shape[1])) * like.std()
    return rows.astype(np.float32)


def _add_neurons(
    t: Tensors, mlp: str, reads: NDArray[Any], bias: NDArray[Any], rows: NDArray[Any]
) -> None:
    new = {"c_fc.weight": reads.T, "c_fc.bias": bias, "c_proj.weight": rows}
    for part, more in new.items():
        old = t[f"{mlp}.{part}"]
        joined = np.concatenate([old.T if part == "c_fc.weight" else old, more.astype(np.float32)])
        t[f"{mlp}.{part}"] = joined.T if part == "c_fc.weight" else joined

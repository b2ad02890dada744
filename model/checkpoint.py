"""What is in a checkpoint folder: weights in any of the forms that people have, and a tokenizer.

Knows the files of Hugging Face's GPT-2 checkpoints. Does not know what is made of them. Reads
safetensors only, and runs no code of a folder.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from model.built import TOKENIZER
from model.chat import PLAIN_TEMPLATE
from model.errors import LoadFailed
from model.tokenizer import Tokenizer

Array = NDArray[Any]
ACTIVATIONS = frozenset({"gelu_new", "gelu_pytorch_tanh"})
"""The names that transformers has for the activation of GPT-2, the tanh approximation."""


class Weights(Mapping[str, Array]):
    """The tensors of a checkpoint in float32, each read when it is asked for.

    Raises:
        LoadFailed: some are missing; or, when it is read, one has numbers that are not finite.
        ValueError: a tensor has not the shape that the configuration says.
    """

    def __init__(self, checkpoint: Path, config: Mapping[str, Any], name: str) -> None:
        self._name = name
        self._files: dict[str, Path] = {}
        shapes: dict[str, list[int]] = {}
        files = sorted(checkpoint.glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{checkpoint} has no safetensors")
        for path in files:
            with safe_open(path, framework="np") as file:
                for key in file.keys():  # noqa: SIM118 (it is no mapping)
                    self._files[key.removeprefix("transformer.")] = path
                    shapes[key.removeprefix("transformer.")] = file.get_slice(key).get_shape()
        wanted = expected_shapes(config)
        self._files = {key: path for key, path in self._files.items() if key in wanted}
        if wanted.keys() - shapes.keys():
            raise LoadFailed(f"The weights of {name} are not complete.")
        for key, shape in wanted.items():
            if list(shape) != shapes[key]:
                raise ValueError(f"{key} has the shape {shapes[key]}, not {shape}")
        self.parameters = sum(math.prod(shape) for shape in wanted.values())

    def __getitem__(self, key: str) -> Array:
        array = _read(self._files[key], key)
        if not np.isfinite(array).all():
            who = self._name
            raise LoadFailed(f"{who} is broken: it has weights that are not finite numbers.")
        return array

    def __contains__(self, key: object) -> bool:
        return key in self._files  # a Mapping would read the tensor to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _read(path: Path, key: str) -> Array:
    """A tensor as float32; numpy has no bfloat16, so torch reads that."""
    with safe_open(path, framework="np") as file:
        whole = key if key in file.keys() else f"transformer.{key}"  # noqa: SIM118
        if file.get_slice(whole).get_dtype() != "BF16":
            array: Array = file.get_tensor(whole).astype("float32", copy=False)
            return array
    with safe_open(path, framework="pt") as file:
        exact: Array = file.get_tensor(whole).float().numpy()
        return exact


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


def read_tokenizer(
    checkpoint: Path, config: Mapping[str, Any], name: str, folder: Path
) -> Tokenizer:
    """The checkpoint's tokenizer, which is also written into `folder`."""
    file = folder / TOKENIZER
    if (checkpoint / TOKENIZER).is_file():
        shutil.copyfile(checkpoint / TOKENIZER, file)
    else:
        _convert(checkpoint, file)
    settings = _settings(checkpoint)
    template = _template(checkpoint, settings)
    tokenizer = Tokenizer(file, eos_token="", chat_template=template)
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(by_id) >= config["vocab_size"]:
        raise LoadFailed(f"The tokenizer of {name} has more tokens than its model.")
    eos = _text(settings.get("eos_token")) or by_id.get(config.get("eos_token_id", -1), "")
    if eos not in tokenizer.get_vocab():
        raise LoadFailed(f"The tokenizer of {name} has no end-of-text token.")
    tokenizer.eos_token = eos
    return tokenizer


def _convert(checkpoint: Path, file: Path) -> None:
    """A tokenizer in an older form (vocab.json and merges.txt, sentencepiece) as one file."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    tokenizer.backend_tokenizer.save(str(file))


def _settings(checkpoint: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for part in ("special_tokens_map.json", "tokenizer_config.json"):
        if (checkpoint / part).is_file():
            settings |= json.loads((checkpoint / part).read_text(encoding="utf-8"))
    return settings


def _template(checkpoint: Path, settings: Mapping[str, Any]) -> str:
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return str(settings.get("chat_template") or PLAIN_TEMPLATE)


def _text(token: str | Mapping[str, str] | None) -> str:
    """A token as it is written in tokenizer_config.json: a text, or an object with one."""
    return token["content"] if isinstance(token, Mapping) else token or ""

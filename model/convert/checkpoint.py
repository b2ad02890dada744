"""Reads a validated Hugging Face checkpoint folder: weights of any dtype, and any tokenizer format.

Does not know what is built from them. Reads safetensors only, and runs no code of a folder.
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

from i18n.phrase import phrase
from model.chat_template import plain_template
from model.convert.artifact import TOKENIZER_FILE
from model.convert.safetensors_header import TensorInfo
from model.convert.sentencepiece import find_sentencepiece, load_sentencepiece, token_text
from model.convert.shapes import EMBEDDING, HEAD
from model.errors import require
from model.tokenizer import Tokenizer

Array = NDArray[Any]


class Weights(Mapping[str, Array]):
    """The tensors of a checkpoint as float32, read on access; a head that equals the embedding is
    left out.

    Raises:
        LoadFailed: on access, a tensor has values that are not finite.
    """

    def __init__(self, tensors: Mapping[str, TensorInfo], name: str) -> None:
        self._tensors = distinct_tensors(tensors)
        self._name = name
        self.parameters = sum(math.prod(one.shape) for one in self._tensors.values())

    def __getitem__(self, key: str) -> Array:
        array = _read_float32(self._tensors[key])
        require(
            bool(np.isfinite(array).all()),
            phrase("{who} is broken: it has weights that are not finite numbers.", who=self._name),
        )
        return array

    def __contains__(self, key: object) -> bool:
        return key in self._tensors  # a Mapping would read the tensor to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def distinct_tensors(tensors: Mapping[str, TensorInfo]) -> Mapping[str, TensorInfo]:
    """The tensors without a head that equals the embedding.

    A head that differs counts whatever `tie_word_embeddings` says, as in transformers.
    """
    if HEAD not in tensors:
        return tensors
    if not np.array_equal(*(_read_float32(tensors[one]) for one in (HEAD, EMBEDDING))):
        return tensors
    return {name: one for name, one in tensors.items() if name != HEAD}


def _read_float32(tensor: TensorInfo) -> Array:
    """A tensor as float32; numpy has no bfloat16, so torch reads that."""
    if tensor.dtype != "BF16":
        with safe_open(tensor.file, framework="np") as file:
            array: Array = file.get_tensor(tensor.name).astype("float32", copy=False)
            return array
    with safe_open(tensor.file, framework="pt") as file:
        exact: Array = file.get_tensor(tensor.name).float().numpy()
        return exact


def read_tokenizer(
    checkpoint: Path, config: Mapping[str, Any], name: str, folder: Path
) -> Tokenizer:
    """The checkpoint's tokenizer, also saved into `folder`."""
    file, settings = folder / TOKENIZER_FILE, read_tokenizer_config(checkpoint)
    if (checkpoint / TOKENIZER_FILE).is_file():
        shutil.copyfile(checkpoint / TOKENIZER_FILE, file)
    elif (pieces := find_sentencepiece(checkpoint)) is not None:
        load_sentencepiece(pieces, settings).save(str(file))
    else:
        _convert_tokenizer(checkpoint, file, name)
    tokenizer = Tokenizer(
        file, eos_token="", chat_template=read_chat_template(checkpoint, settings)
    )
    tokenizer.chat_template = tokenizer.chat_template or plain_template(tokenizer)
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    require(
        max(by_id) < config["vocab_size"],
        phrase("The tokenizer of {who} has more tokens than its model.", who=name),
    )
    eos = token_text(settings.get("eos_token")) or by_id.get(config.get("eos_token_id", -1), "")
    require(
        eos in tokenizer.get_vocab(),
        phrase("The tokenizer of {who} has no end-of-text token.", who=name),
    )
    tokenizer.eos_token = eos
    unknown = token_text(settings.get("unk_token"))
    if unknown != eos and unknown in tokenizer.get_vocab():
        tokenizer.unk_token = unknown
    return tokenizer


def _convert_tokenizer(checkpoint: Path, file: Path, name: str) -> None:
    """Save a tokenizer of the older format (vocab.json and merges.txt) as one file."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    require(
        tokenizer.is_fast,
        phrase("The tokenizer of {who} needs a program of its own; it cannot be used.", who=name),
    )
    tokenizer.backend_tokenizer.save(str(file))


def read_tokenizer_config(checkpoint: Path) -> dict[str, Any]:
    """The tokenizer settings of a folder."""
    settings: dict[str, Any] = {}
    for part in ("special_tokens_map.json", "tokenizer_config.json"):
        if (checkpoint / part).is_file():
            settings |= json.loads((checkpoint / part).read_text(encoding="utf-8"))
    return settings


def read_chat_template(checkpoint: Path, settings: Mapping[str, Any]) -> str:
    """The chat template of a folder; empty if it has none."""
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return str(settings.get("chat_template") or "")

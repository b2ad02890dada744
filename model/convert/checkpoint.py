"""Reads a validated Hugging Face checkpoint folder: weights of any dtype, and any tokenizer format.

Does not know what is built from them. Reads safetensors only, and runs no code of a folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer

from i18n.phrase import phrase
from model.convert.artifact import TOKENIZER_FILE
from model.convert.safetensors_header import TensorInfo
from model.convert.sentencepiece import (
    find_sentencepiece,
    load_sentencepiece,
    special_tokens,
    token_text,
)
from model.convert.shapes import EMBEDDING, HEAD
from model.convert.validation import SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG_FILE, read_json
from model.errors import require
from model.own_templates import plain_template
from model.tokenizer import Tokenizer, has_regex, open_fast_tokenizer

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
    if not np.array_equal(_read_float32(tensors[HEAD]), _read_float32(tensors[EMBEDDING])):
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
    """The checkpoint's tokenizer as transformers reads it, also saved into `folder`."""
    settings, file = read_tokenizer_config(checkpoint, name), folder / TOKENIZER_FILE
    special = _special_tokens(checkpoint, config, settings)
    _save_tokenizer(checkpoint, config, name, settings, file)
    fast = open_fast_tokenizer(file)
    _add_tokens(fast, special, settings)
    saved: dict[str, Any] = json.loads(fast.to_str())
    # an added token without a row in the model is never written; typed, it is text
    rows = config["vocab_size"]
    saved["added_tokens"] = [one for one in saved["added_tokens"] if one["id"] < rows]
    require(
        not has_regex(saved["decoder"]),
        phrase("The tokenizer of {who} decodes with a pattern, which is not run here.", who=name),
    )
    file.write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")
    tokenizer = Tokenizer(
        file,
        special_tokens=special,
        chat_template=read_chat_template(checkpoint, settings, name),
    )
    tokenizer.chat_template = tokenizer.chat_template or plain_template(tokenizer)
    _check_vocabulary(tokenizer, config, name)
    return tokenizer


def _check_vocabulary(tokenizer: Tokenizer, config: Mapping[str, Any], name: str) -> None:
    """Find the end of text, and drop special tokens that the model has no rows for."""
    vocabulary = tokenizer.get_vocab()
    by_id = {number: token for token, number in vocabulary.items()}
    words = by_id.keys() - tokenizer.backend_tokenizer.get_added_tokens_decoder().keys()
    require(bool(words), phrase("The tokenizer of {who} has no tokens.", who=name))
    require(
        max(by_id) < config["vocab_size"],
        phrase("The tokenizer of {who} has more tokens than its model.", who=name),
    )
    special = tokenizer.special_tokens_map
    if special.get("eos_token") not in vocabulary:
        special["eos_token"] = next(
            (by_id[one] for one in token_ids(config.get("eos_token_id")) if one in by_id), ""
        )
    require(
        bool(special["eos_token"]),
        phrase("The tokenizer of {who} has no end-of-text token.", who=name),
    )


def token_ids(ids: object) -> list[int]:
    """The ids of a setting that is one, a list of them, or missing."""
    return [one for one in (ids if isinstance(ids, list) else [ids]) if type(one) is int]


def _save_tokenizer(
    checkpoint: Path, config: Mapping[str, Any], name: str, settings: Mapping[str, Any], file: Path
) -> None:
    """Write it in whatever form it comes as one file."""
    if (checkpoint / TOKENIZER_FILE).is_file():
        saved = json.loads((checkpoint / TOKENIZER_FILE).read_text(encoding="utf-8"))
        if _is_gpt2_tokenizer(checkpoint, config, settings) and "merges" in saved["model"]:
            saved |= _byte_level(bool(settings.get("add_prefix_space", False)))
            saved["model"]["dropout"] = None
        file.write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")
    elif (pieces := find_sentencepiece(checkpoint)) is not None:
        load_sentencepiece(pieces, settings).save(str(file))
    else:
        _convert_tokenizer(checkpoint, file, name)


def _is_gpt2_tokenizer(
    checkpoint: Path, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> bool:
    """Whether transformers makes a GPT2Tokenizer, which takes only the vocabulary of the file."""
    kind = settings.get("tokenizer_class") or config.get("tokenizer_class") or "GPT2Tokenizer"
    own = str(kind).removesuffix("Fast") == "GPT2Tokenizer"
    return own and find_sentencepiece(checkpoint) is None


def _byte_level(add_prefix_space: bool) -> dict[str, Any]:
    """How a GPT2Tokenizer splits text, whatever its file says."""
    parts = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "normalizer": None,
        "pre_tokenizer": parts | {"add_prefix_space": add_prefix_space},
        "decoder": parts | {"add_prefix_space": True},
    }


def _special_tokens(
    checkpoint: Path, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, str]:
    """The tokens that have a role, by transformers' names."""
    defaults = {}
    if _is_gpt2_tokenizer(checkpoint, config, settings):
        defaults = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return defaults | special_tokens(settings)


def _add_tokens(
    fast: FastTokenizer, special: Mapping[str, str], settings: Mapping[str, Any]
) -> None:
    """Add the tokens that only tokenizer_config.json names, in transformers' order."""
    there = {one.content for one in fast.get_added_tokens_decoder().values()}
    listed = settings.get("added_tokens_decoder") or {}
    words = [AddedToken(**listed[number]) for number in sorted(listed, key=int)]
    fast.add_tokens([one for one in words if one.content not in there])
    extra = settings.get("additional_special_tokens") or settings.get("extra_special_tokens") or []
    others = [token_text(one) for one in (extra.values() if isinstance(extra, dict) else extra)]
    there |= {one.content for one in words}
    fast.add_special_tokens(
        [
            AddedToken(one, special=True, normalized=False)
            for one in dict.fromkeys([*special.values(), *others])
            if one and one not in there
        ]
    )


def _convert_tokenizer(checkpoint: Path, file: Path, name: str) -> None:
    """Save a tokenizer of the older format (vocab.json and merges.txt) as one file."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    require(
        tokenizer.is_fast,
        phrase("The tokenizer of {who} needs a program of its own; it cannot be used.", who=name),
    )
    tokenizer.backend_tokenizer.save(str(file))


def read_tokenizer_config(checkpoint: Path, name: str) -> dict[str, Any]:
    """The tokenizer settings of a folder; older ones are in two files.

    Raises:
        LoadFailed: one of them cannot be read.
    """
    old = read_json(checkpoint / SPECIAL_TOKENS_FILE, name)
    new = read_json(checkpoint / TOKENIZER_CONFIG_FILE, name)
    return old | new if "added_tokens_decoder" in new else new | old


def read_chat_template(checkpoint: Path, settings: Mapping[str, Any], name: str) -> str:
    """The chat template of a folder, of several the default; empty if it has none."""
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = settings.get("chat_template") or ""
    if isinstance(found, list):
        found = {one["name"]: one["template"] for one in found}
    if isinstance(found, Mapping):
        require(
            "default" in found,
            phrase("{who} has chat templates, but none is called “default”.", who=name),
        )
        found = found["default"]
    return str(found)

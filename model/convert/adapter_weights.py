"""Reads the matrices of a validated adapter, and compares its tokenizer with that of its base.

Does not know runners. Reads safetensors only, without torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

from i18n.phrase import phrase
from model.adapter import Adapter, low_rank_pair
from model.convert.adapter_folder import ADAPTER_WEIGHTS_FILE, AdapterFolder, files_sha256
from model.convert.checkpoint import read_chat_template, read_tokenizer_config
from model.convert.safetensors_header import TensorInfo
from model.convert.validation import CONFIG_FILE, GENERATION_CONFIG_FILE, allowed_files
from model.errors import LoadFailed, require
from model.tokenizer import Tokenizer, open_fast_tokenizer

TOKENIZER_JSON, VOCABULARY_JSON = "tokenizer.json", "vocab.json"


def read_adapter(folder: AdapterFolder, who: str) -> Adapter:
    """The adapter, in half precision.

    Raises:
        LoadFailed: it has values that are not finite, or another file took its place.
    """
    data = (folder.path / ADAPTER_WEIGHTS_FILE).read_bytes()  # one moment of the file
    read: Any = deserialize  # it has no types
    stored = dict(read(data))
    pairs = {}
    for matrix, (a, b) in folder.pairs.items():
        pairs[matrix] = low_rank_pair(
            _read_float32(stored, a, who).T, _read_float32(stored, b, who).T, folder.scale
        )
    return Adapter(folder.rank, pairs)


def _read_float32(
    stored: Mapping[str, Mapping[str, Any]], info: TensorInfo, who: str
) -> NDArray[np.float32]:
    found = stored.get(info.name)
    if found is None or (found["dtype"], tuple(found["shape"])) != (info.dtype, info.shape):
        raise LoadFailed(phrase("{who} was changed while it was being loaded.", who=who))
    if info.dtype == "BF16":  # the upper half of a float32; numpy has no such type
        upper = np.frombuffer(found["data"], np.uint16).astype(np.uint32)
        array = (upper << 16).view(np.float32)
    else:
        array = np.frombuffer(found["data"], np.float16 if info.dtype == "F16" else np.float32)
        array = array.astype(np.float32)
    require(
        bool(np.isfinite(array).all()),
        phrase("{who} is broken: it has weights that are not finite numbers.", who=who),
    )
    return array.reshape(info.shape)


def tokenizer_sha256(folder: AdapterFolder) -> str:
    """A hash of all files from which its tokenizer is read."""
    return files_sha256(sorted(one for one in allowed_files(folder.path) if _is_tokenizer(one)))


def _is_tokenizer(path: Path) -> bool:
    return path.suffix != ".safetensors" and path.name not in (CONFIG_FILE, GENERATION_CONFIG_FILE)


def check_tokenizer(folder: AdapterFolder, base: Tokenizer, who: str, base_name: str) -> None:
    """Refuse an adapter that was trained with other tokens or another chat template, since all
    adapters of a base share its own.

    Raises:
        LoadFailed: the message says so.
    """
    settings = read_tokenizer_config(folder.path, who)
    template = read_chat_template(folder.path, settings, who)
    vocabulary = _vocabulary(folder.path)
    tokens = base.get_vocab()
    require(
        not template.strip() or template.strip() == base.chat_template.strip(),
        phrase("{who} has another chat template than its base {base}.", who=who, base=base_name),
    )
    require(
        vocabulary is None or all(tokens.get(one) == n for one, n in vocabulary.items()),
        phrase("{who} has another tokenizer than its base {base}.", who=who, base=base_name),
    )


def _vocabulary(folder: Path) -> dict[str, int] | None:
    """The tokens of a folder, if it has any."""
    if (folder / TOKENIZER_JSON).is_file():
        vocabulary: dict[str, int] = open_fast_tokenizer(folder / TOKENIZER_JSON).get_vocab()
        return vocabulary
    if (folder / VOCABULARY_JSON).is_file():
        words: dict[str, int] = json.loads((folder / VOCABULARY_JSON).read_text(encoding="utf-8"))
        return words
    return None

"""Loads a validated checkpoint as transformers' model: for a GPU, and for training.

Takes the tensors that `model.convert.validation` chose, so that all who read a folder read the same
ones. Imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import safe_open
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from model.convert.checkpoint import distinct_tensors
from model.convert.safetensors_header import TensorInfo
from model.convert.shapes import HEAD
from model.convert.validation import ModelFolder


def load_pretrained(checkpoint: ModelFolder, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its weights as `dtype`, on the CPU. Its config says whether it has a head of
    its own.

    Raises:
        ValueError: the config has settings that transformers refuses.
    """
    tied = bool(checkpoint.config.get("tie_word_embeddings", True))
    tensors = distinct_tensors(checkpoint.tensors) if tied else checkpoint.tensors
    try:
        config = GPT2Config(
            **{
                **checkpoint.config,
                "tie_word_embeddings": tied and HEAD not in tensors,
            }
        )
    except StrictDataclassError as e:
        raise ValueError(f"{checkpoint.path} has a config that cannot be used: {e}") from e
    weights = {
        name if name == HEAD else f"transformer.{name}": read
        for name, read in _read_all(tensors).items()
    }
    load: Any = GPT2LMHeadModel.from_pretrained  # its types want a path
    model: PreTrainedModel = load(
        None, config=config, state_dict=weights, trust_remote_code=False, dtype=dtype
    )
    model.name_or_path = str(checkpoint.path)  # peft looks there for the base
    return model


def _read_all(tensors: Mapping[str, TensorInfo]) -> dict[str, torch.Tensor]:
    """Each file is opened once: it stays mapped as a whole while one of its tensors is used."""
    with ExitStack() as stack:
        files = {
            path: stack.enter_context(safe_open(path, framework="pt"))
            for path in {one.file for one in tensors.values()}
        }
        return {name: files[one.file].get_tensor(one.name) for name, one in tensors.items()}

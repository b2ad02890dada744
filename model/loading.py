"""From a folder or a Hub id to a model that was tried: weights, tokenizer, facts.

Every failure becomes LoadFailed with a sentence. Imports torch and transformers.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from model.chat import ensure_template, stop_strings
from model.device import Device
from model.errors import LoadFailed
from model.messages import ModelFacts

_keys = itertools.count(1)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model in memory. `key` tells two loads of the same source apart."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: ModelFacts
    stops: tuple[str, ...]
    key: int = field(default_factory=lambda: next(_keys))


def load(source: str, device: Device) -> Loaded:
    """Load a GPT-2 model and try it.

    Raises:
        LoadFailed: the sentence says why, and what to do where there is something to do.
    """
    began = time.monotonic()
    try:
        model, tokenizer = _read(source, device)
        ensure_template(tokenizer)
        _try(model, tokenizer, source)
    except LoadFailed:
        raise
    except (MemoryError, torch.OutOfMemoryError) as e:
        raise LoadFailed(f"There is not enough memory to load {name(source)}.") from e
    except (SafetensorError, HFValidationError, OSError, ValueError, RuntimeError, KeyError) as e:
        raise LoadFailed(_why(source, e)) from e
    facts = ModelFacts(
        source=source,
        parameters=model.num_parameters(),
        positions=int(model.config.n_positions),
        vocabulary=int(model.config.vocab_size),
        dtype=str(model.dtype).removeprefix("torch."),
        load_s=time.monotonic() - began,
    )
    return Loaded(model, tokenizer, facts, stop_strings(tokenizer))


def _read(source: str, device: Device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config = AutoConfig.from_pretrained(source)
    if config.model_type != "gpt2":
        raise LoadFailed(f"{name(source)} is a {config.model_type} model; only GPT-2 can be used.")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source, config=config, use_safetensors=True, dtype=device.dtype, output_loading_info=True
    )
    model, info = loaded
    missing = [key for key in info["missing_keys"] if not key.endswith(".attn.bias")]
    if missing or info["mismatched_keys"]:
        raise LoadFailed(f"The weights of {name(source)} are not complete.")
    tokenizer = AutoTokenizer.from_pretrained(source)
    if len(tokenizer) > config.vocab_size:
        raise LoadFailed(f"The tokenizer of {name(source)} has more tokens than its model.")
    if tokenizer.eos_token_id is None:
        raise LoadFailed(f"The tokenizer of {name(source)} has no end-of-text token.")
    return model.to(device.name), tokenizer


@torch.inference_mode()
def _try(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    ids = torch.tensor([[tokenizer.eos_token_id]], device=model.device)
    model.train(False)
    if not bool(torch.isfinite(model(input_ids=ids).logits).all()):
        raise LoadFailed(f"{name(source)} is broken: it computes numbers that are not finite.")


def name(source: str) -> str:
    """What a person calls it: the folder's name, or the Hub id."""
    return Path(source).name if Path(source).is_absolute() else source


def _why(source: str, error: Exception) -> str:
    who = name(source)
    if Path(source).exists():
        return f"{who} is damaged or not a GPT-2 model: {_first_line(error)}"
    if Path(source).is_absolute():
        return f"There is no model folder {who}."
    return (
        f"{who} cannot be had: it is neither on this machine nor can the Hugging Face Hub be "
        "reached for it. Check the name and the connection."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""From a folder or a Hub id to a model that was tried: weights, tokenizer, facts.

Every failure becomes LoadFailed with a sentence. Imports torch and transformers.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from data.schema import Message, Role
from model.chat import HALF, ensure_template, fit, stop_strings
from model.device import Device, is_out_of_memory
from model.errors import LoadFailed
from model.messages import ModelFacts

log = logging.getLogger(__name__)

UNREADABLE = (
    SafetensorError,
    HFValidationError,
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    MemoryError,
)
"""What transformers raises for a folder or a Hub id that it cannot make a model of."""
TRIAL_TOKENS = 4
"""Length of the reply that a model must be able to give before it answers anybody."""

_keys = itertools.count(1)
_one_at_a_time = threading.Lock()
"""transformers patches its own classes while it reads weights, for all threads."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model in memory. `key` tells two loads of the same source apart.

    A reply ends before a text of `stops` and at a control token, one of `ends`; `mute` are all
    the tokens with which a reply would end before it began; `fragments` are less than a character.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: ModelFacts
    stops: tuple[str, ...]
    ends: frozenset[int]
    mute: tuple[int, ...]
    fragments: frozenset[int]
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
    except TemplateError as e:
        raise LoadFailed(f"The chat template of {name(source)} does not work: {e}.") from e
    except UNREADABLE as e:
        raise LoadFailed(why(source, e)) from e
    facts = ModelFacts(
        source=source,
        parameters=model.num_parameters(),
        positions=int(model.config.n_positions),
        vocabulary=int(model.config.vocab_size),
        dtype=str(model.dtype).removeprefix("torch."),
        load_s=time.monotonic() - began,
    )
    stops = stop_strings(tokenizer)
    ends = frozenset([*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()])
    mute = tuple(ends | _tokens_with(tokenizer, stops))
    return Loaded(model, tokenizer, facts, stops, ends, mute, _fragments(tokenizer))


def _read(source: str, device: Device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if config.model_type != "gpt2":
        raise LoadFailed(f"{name(source)} is a {config.model_type} model; only GPT-2 can be used.")
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if max(tokenizer.get_vocab().values()) >= config.vocab_size:
        raise LoadFailed(f"The tokenizer of {name(source)} has more tokens than its model.")
    if tokenizer.eos_token_id is None:
        raise LoadFailed(f"The tokenizer of {name(source)} has no end-of-text token.")
    with contextlib.suppress(OSError):  # a long download keeps no other model waiting
        cached_file(source, SAFE_WEIGHTS_NAME)
    with _one_at_a_time:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=device.dtype,
            output_loading_info=True,
        )
    model, info = loaded
    missing = [key for key in info["missing_keys"] if not key.endswith(".attn.bias")]
    if missing or info["mismatched_keys"]:
        raise LoadFailed(f"The weights of {name(source)} are not complete.")
    for parameter in model.parameters():  # they are a map of the file, which may be written anew
        parameter.data = parameter.data.clone()
    return model.to(device.name), tokenizer


@torch.inference_mode()
def _try(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """A short greedy reply: the template renders, the numbers are numbers."""
    model.train(False)
    budget = model.config.n_positions - TRIAL_TOKENS
    ids = fit(tokenizer, [Message(Role.USER, "Hello!")], budget).input_ids
    for _ in range(TRIAL_TOKENS):
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1]
        if not bool(torch.isfinite(logits).all()):
            raise LoadFailed(f"{name(source)} is broken: it computes numbers that are not finite.")
        ids = [*ids, int(logits.argmax())]


def _fragments(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ids = sorted(tokenizer.get_vocab().values())
    texts = tokenizer.batch_decode([[token] for token in ids])
    return frozenset(token for token, text in zip(ids, texts, strict=True) if HALF in text)


def _tokens_with(tokenizer: PreTrainedTokenizerBase, stops: tuple[str, ...]) -> set[int]:
    if not stops:
        return set()
    ids = sorted(tokenizer.get_vocab().values())
    texts = tokenizer.batch_decode([[token] for token in ids])
    return {token for token, text in zip(ids, texts, strict=True) if any(s in text for s in stops)}


def name(source: str) -> str:
    """What a person calls it: the folder's name, or the Hub id."""
    return Path(source).name if Path(source).is_absolute() else source


def why(source: str, error: Exception) -> str:
    """A sentence without the library's words: those are for the operator's log."""
    log.warning("loading %s failed: %s", source, error)
    who, folder = name(source), Path(source)
    if is_out_of_memory(error):
        return f"There is not enough memory to load {who}."
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        return f"{who} is no model folder: it has no weights as safetensors."
    if folder.exists():
        return f"{who} is damaged, or not a GPT-2 model."
    if folder.is_absolute():
        return f"There is no model folder {who}."
    return (
        f"{who} cannot be had: it is neither on this machine nor can the Hugging Face Hub be "
        "reached for it. Check the name and the connection."
    )

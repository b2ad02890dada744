"""From a folder or a Hub id to a model that was tried: runner, tokenizer, facts.

Every failure becomes LoadFailed with a sentence. Imports torch only for a GPU.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError

from core.records import Message, Role
from i18n.phrase import phrase
from model.chat_template import fit
from model.convert.artifact import Meta, read_meta, read_tokenizer
from model.convert.build import UNREADABLE, bad_template, built, name, why
from model.errors import LoadFailed
from model.runners.base import Runner
from model.runners.device import Device, is_out_of_memory
from model.tokenizer import Tokenizer
from model.worker.messages import ModelFacts

log = logging.getLogger(__name__)

TRIAL_TOKENS = 4
"""Length of the reply that a model must be able to give before it answers anybody."""

_keys = itertools.count(1)
_alone = threading.Lock()
"""Transformers changes its classes for as long as it loads a model: two threads that load at once
would leave them changed, and nothing could be loaded from then on."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model in memory. `key` tells two loads of the same source apart.

    A reply ends before a text of `stops` and at a control token, one of `ends`; `mute` are all
    the tokens with which a reply would end before it began; `fragments` are less than a character,
    `unknown` is no text and is never said.
    """

    runner: Runner
    tokenizer: Tokenizer
    facts: ModelFacts
    stops: tuple[str, ...]
    ends: frozenset[int]
    mute: tuple[int, ...]
    fragments: frozenset[int]
    unknown: tuple[int, ...]
    key: int = field(default_factory=lambda: next(_keys))


def load(source: str, device: Device, cache: Path, *, rows: int = 16, threads: int = 1) -> Loaded:
    """Load a GPT-2 model for `rows` sequences at a time and try it. `cache`: see `model.convert.build`.

    Raises:
        LoadFailed: the sentence says why, and what to do where there is something to do.
    """
    began = time.monotonic()
    try:
        meta, tokenizer, runner = _open(source, device, cache, rows, threads)
        _try(runner, tokenizer, meta, source)
    except LoadFailed:
        raise
    except TemplateError as e:
        raise LoadFailed(bad_template(source, e)) from e
    except UNREADABLE as e:
        raise LoadFailed(why(source, e)) from e
    facts = ModelFacts(
        source=source,
        parameters=meta.parameters,
        positions=meta.positions,
        vocabulary=meta.vocabulary,
        dtype=device.serving,
        load_s=time.monotonic() - began,
        japanese=meta.japanese,
    )
    return Loaded(
        runner,
        tokenizer,
        facts,
        tuple(meta.stops),
        frozenset(meta.ends),
        tuple(meta.mute),
        frozenset(meta.fragments),
        (tokenizer.get_vocab()[meta.unk_token],) if meta.unk_token else (),
    )


def _open(
    source: str, device: Device, cache: Path, rows: int, threads: int
) -> tuple[Meta, Tokenizer, Runner]:
    """What was built of a model; if that is damaged, it is built once more."""
    on_cpu = device.name == "cpu"
    for last in (False, True):
        folder = built(source, cache, device.serving if on_cpu else "torch")
        try:
            meta = read_meta(folder)
            runner = (_onnx if on_cpu else _torch)(folder, meta, device, rows, threads)
            return meta, read_tokenizer(folder, meta), runner
        except UNREADABLE as e:
            if last or is_out_of_memory(e) or isinstance(e, PermissionError):
                raise
            log.warning("%s is damaged and is built again", folder)
            shutil.rmtree(folder, ignore_errors=True)
    raise AssertionError("the second time returns or raises")


def _onnx(folder: Path, meta: Meta, device: Device, rows: int, threads: int) -> Runner:
    from model.runners.onnx_runner import OnnxRunner

    return OnnxRunner(folder, meta, rows=rows, threads=threads)


def _torch(folder: Path, meta: Meta, device: Device, rows: int, threads: int) -> Runner:
    with _alone:
        import torch
        import transformers

        from model.runners.torch_runner import TorchRunner

        library_log: Any = transformers.utils.logging  # its functions have no types
        library_log.disable_progress_bar()  # the operator's terminal is for our log
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            meta.checkpoint,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype[device.serving],
        )
        return TorchRunner(model.to(device.name), rows=rows, threads=threads)


def _try(runner: Runner, tokenizer: Tokenizer, meta: Meta, source: str) -> None:
    """A short greedy reply: the template renders, the numbers are numbers."""
    ids = fit(tokenizer, [Message(Role.USER, "Hello!")], meta.positions - TRIAL_TOKENS).input_ids
    logits = runner.read(0, ids, 0)
    for past in range(len(ids), len(ids) + TRIAL_TOKENS):
        if not bool(np.isfinite(logits).all()):
            who = name(source)
            raise LoadFailed(
                phrase("{who} is broken: it computes numbers that are not finite.", who=who)
            )
        logits = runner.decode([int(logits.argmax())], [past])[0]
    runner.release(0)

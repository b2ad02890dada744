"""Loads a model from a folder or Hub id, and tries it. Imports torch only for a GPU.

The folder may be that of an adapter: then its base is loaded unless it is in memory already.

Every failure becomes a LoadFailed.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError

from core.records import Message, Role
from i18n.phrase import phrase
from model.adapter import Adapter
from model.bases import Base, Bases
from model.chat_template import build_prompt
from model.convert.adapter_folder import check_base, find_base, is_adapter, validate_adapter
from model.convert.adapter_weights import check_tokenizer, read_adapter, tokenizer_sha256
from model.convert.artifact import ModelMetadata, read_metadata, read_tokenizer
from model.convert.build import (
    LOAD_ERRORS,
    get_or_build,
    load_error_message,
    template_error_message,
)
from model.convert.validation import validate_folder
from model.errors import LoadFailed, RunawayModel, require
from model.isolation import runaway_message
from model.registry import display_name
from model.runners.base import Logits, Runner
from model.runners.device import Device, is_out_of_memory
from model.tokenizer import Tokenizer
from model.worker.messages import ModelInfo

log = logging.getLogger(__name__)

SMOKE_TEST = (
    Message(Role.USER, "Hello!"),
    Message(Role.ASSISTANT, "Hi."),
    Message(Role.USER, "How are you?"),
)
"""The conversation that a model is tried with."""
SMOKE_TEST_TOKENS = 4
"""Length of the test reply before a model is used."""
TRIAL_TOKENS = 4
"""Tokens that an adapter is tried with, on a base that was tried before."""

_keys = itertools.count(1)
_transformers_lock = threading.Lock()
"""Transformers patches its classes while it loads a model: two concurrent loads could leave them
patched, and no model could be loaded from then on."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model in memory. `key` tells two loads of the same source apart. Those that share a
    `runner` are one base with different adapters, or without (None), and run in one batch.

    A reply ends before one of `stop_strings` or at one of `stop_token_ids`.
    `begin_suppress_token_ids` are all tokens that would end it before it began;
    `partial_char_token_ids` are tokens of less than a character; `suppress_token_ids` are never
    sampled.
    """

    runner: Runner
    tokenizer: Tokenizer
    info: ModelInfo
    stop_strings: tuple[str, ...]
    stop_token_ids: frozenset[int]
    begin_suppress_token_ids: tuple[int, ...]
    partial_char_token_ids: frozenset[int]
    suppress_token_ids: tuple[int, ...]
    adapter: Adapter | None = None
    base: Base | None = None
    key: int = field(default_factory=lambda: next(_keys))

    @property
    def batch_key(self) -> int:
        """The key of all models in memory with this runner."""
        return id(self.runner)


def load(
    source: str,
    device: Device,
    cache: Path,
    *,
    rows: int = 16,
    threads: int = 1,
    bases: Bases | None = None,
) -> LoadedModel:
    """Load a GPT-2 model for batches of `rows` sequences, or the adapter of one. `cache`: see
    `model.convert.build`. What is in memory already is taken from `bases`.

    Raises:
        LoadFailed: the message says why, and what to do about it.
    """
    began, bases = time.monotonic(), bases or Bases()
    try:
        opener = partial(_open, device=device, cache=cache, rows=rows, threads=threads)
        if is_adapter(source):
            base, adapter = _load_adapter(Path(source), bases, opener)
        else:
            base, adapter = bases.get(source, opener), None
    except LoadFailed:
        raise
    except RunawayModel as e:
        raise LoadFailed(runaway_message(display_name(source))) from e
    except TemplateError as e:
        raise LoadFailed(template_error_message(source, e)) from e
    except LOAD_ERRORS as e:
        raise LoadFailed(load_error_message(source, e)) from e
    meta = base.meta
    info = ModelInfo(
        source=source,
        parameters=meta.parameters,
        positions=meta.positions,
        vocabulary=meta.vocabulary,
        dtype=device.serving_precision,
        load_s=time.monotonic() - began,
        japanese=meta.japanese,
        int8=meta.int8,
    )
    return LoadedModel(
        base.runner,
        base.tokenizer,
        info,
        tuple(meta.stops),
        frozenset(meta.ends),
        tuple(meta.mute),
        frozenset(meta.fragments),
        tuple(meta.never),
        adapter,
        base,
    )


def _load_adapter(path: Path, bases: Bases, opener: Callable[[str], Base]) -> tuple[Base, Adapter]:
    """Its base, loaded unless it is in memory, and the adapter, which has been tried."""
    who = display_name(str(path))
    folder = validate_adapter(path, who)
    checkpoint = bases.checkpoint(folder.base, lambda: find_base(folder, who))
    sha256 = bases.sha256(checkpoint) if folder.base_sha256 else None
    check_base(folder, checkpoint, who, sha256)
    base = bases.get(folder.base, opener)
    if (tokens := tokenizer_sha256(folder)) not in base.known_tokenizers:
        check_tokenizer(folder, base.tokenizer, who, display_name(folder.base))
        base.known_tokenizers.add(tokens)
    adapter = read_adapter(folder, who)
    base.runner.prepare(adapter)
    with np.errstate(over="ignore"):  # what comes of that is found in the logits
        logits = base.runner.trial(adapter, base.trial_ids)
    _require_finite(logits, who)
    return base, adapter


def _open(source: str, device: Device, cache: Path, rows: int, threads: int) -> Base:
    """Open the artifact of a model, and try it; a damaged one is rebuilt once."""
    on_cpu = device.name == "cpu"
    for last in (False, True):
        folder = get_or_build(source, cache, device.serving_precision if on_cpu else "torch")
        try:
            meta = read_metadata(folder)
            runner = (_load_onnx if on_cpu else _load_torch)(folder, meta, device, rows, threads)
            tokenizer = read_tokenizer(folder, meta)
            break
        except LOAD_ERRORS as e:
            if last or is_out_of_memory(e) or isinstance(e, PermissionError):
                raise
            log.warning("%s is damaged; rebuilding it", folder)
            shutil.rmtree(folder, ignore_errors=True)
    ids = _smoke_test(runner, tokenizer, meta, source)
    return Base(runner, tokenizer, meta, ids[:TRIAL_TOKENS])


def _load_onnx(
    folder: Path, meta: ModelMetadata, device: Device, rows: int, threads: int
) -> Runner:
    from model.runners.onnx_runner import OnnxRunner

    return OnnxRunner(folder, meta, rows=rows, threads=threads)


def _load_torch(
    folder: Path, meta: ModelMetadata, device: Device, rows: int, threads: int
) -> Runner:
    with _transformers_lock:
        import torch
        import transformers

        from model.convert.pretrained import load_pretrained
        from model.runners.torch_runner import TorchRunner

        library_log: Any = transformers.utils.logging  # its functions have no types
        library_log.disable_progress_bar()  # keep the operator's terminal to our log
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        checkpoint = validate_folder(Path(meta.checkpoint), display_name(meta.checkpoint))
        model: Any = load_pretrained(checkpoint, dtype[device.serving_precision])
        return TorchRunner(model.to(device.name), rows=rows, threads=threads)


def _smoke_test(
    runner: Runner, tokenizer: Tokenizer, meta: ModelMetadata, source: str
) -> list[int]:
    """Generate a few tokens: the template must take turns, and the logits be finite. The prompt."""
    ids = build_prompt(tokenizer, SMOKE_TEST, meta.positions - SMOKE_TEST_TOKENS).input_ids
    who = display_name(source)
    require(
        bool(ids), phrase("The chat template of {who} makes nothing of a conversation.", who=who)
    )
    logits = runner.prefill(0, ids, 0)
    for past in range(len(ids), len(ids) + SMOKE_TEST_TOKENS):
        _require_finite(logits, who)
        logits = runner.decode([int(logits.argmax())], [past])[0]
    runner.release(0)
    return ids


def _require_finite(logits: Logits, who: str) -> None:
    require(
        bool(np.isfinite(logits).all()),
        phrase("{who} is broken: it computes numbers that are not finite.", who=who),
    )

"""Builds a runnable artifact (`model.convert.artifact`) from a checkpoint folder or Hub id.

`get_or_build` looks in a cache, by the hash of the checkpoint's files, else builds in a child
process of low priority: so the worker never imports onnx, and replies keep their speed. Every
failure becomes a LoadFailed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from safetensors import SafetensorError

from core.errors import DISK_FULL_ERRNOS
from core.limits import end_with_parent
from core.logging import configure_logging, current_log_format
from core.subprocesses import LAUNCH_OPTIONS, child_environment
from i18n.phrase import Phrase, deserialize_phrase, message_of, phrase, serialize_phrase
from model.chat_template import REPLACEMENT_CHAR
from model.control_tokens import control_tokens
from model.convert.artifact import METADATA_FILE, TOKENIZER_FILE, WEIGHTS_FILE, ModelMetadata
from model.convert.checkpoint import Weights, read_tokenizer, token_ids
from model.convert.int8.quality import Int8Quality, int8_message
from model.convert.validation import (
    GENERATION_CONFIG_FILE,
    ModelFolder,
    allowed_files,
    no_weights_message,
    out_of_memory_message,
    read_json,
    resolve_source,
    validate_folder,
)
from model.errors import LoadFailed, RunawayModel
from model.isolation import IsolatedTokenizer, runaway_message
from model.own_templates import OWN_TEMPLATES, is_japanese, stop_strings
from model.registry import display_name
from model.runners.device import cpu_kind, is_out_of_memory
from model.tokenizer import Tokenizer, has_regex

if TYPE_CHECKING:
    from model.convert.onnx_graph import GraphConfig

log = logging.getLogger(__name__)

BUILD_VERSION = "7"
"""Part of the cache key: a new version rebuilds all models."""
MAX_CACHE_BYTES = 4 << 30
"""Limit of the cache; the least recently used artifacts are evicted."""
BUILD_LIMIT_S = 1800.0
"""Seconds of a build, without the download."""
CHILD_SCRIPT = """
from core.subprocesses import lower_priority
lower_priority(12)
from model.convert.build import main
main()
"""
"""Lowers its priority before the imports, which take long: replies keep nearly all their speed."""
MAX_INLINE_HASH_BYTES = 64 << 20
"""Size of a checkpoint up to which it is hashed in this process, without a child."""
STALE_BUILD_S = 3600.0
"""Age in seconds from which on an unfinished folder was left behind by a killed build."""
LOAD_ERRORS = (
    SafetensorError,
    OSError,
    ValueError,  # an id that the Hub's library finds malformed, among others
    RuntimeError,
    LookupError,
    TypeError,
    MemoryError,
)
"""What the libraries raise for a folder or Hub id that is not a usable model."""


def get_or_build(source: str, cache: Path, precision: str) -> Path:
    """The artifact folder of a model, from the cache or built now. `precision`: int8, fp32, torch.

    Raises:
        LoadFailed: the message says why, and what to do about it.
    """
    if (folder := _find_cached(source, cache, precision)) is not None:
        return folder
    log_level = str(logging.getLogger().getEffectiveLevel())
    arguments = [source, str(cache), precision, log_level, current_log_format()]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD_SCRIPT, *arguments],
        stdin=subprocess.PIPE,  # its end tells the child that this process is gone
        stdout=subprocess.PIPE,
        env=child_environment() | {"OPENBLAS_NUM_THREADS": "1"},
        **LAUNCH_OPTIONS,
    ) as child:
        assert child.stdout is not None  # a pipe was asked for
        lines = child.stdout.read().decode().splitlines()
    answer: dict[str, str] = json.loads(lines[-1]) if lines else {}
    if "folder" in answer:
        return Path(answer["folder"])
    if "reason" in answer:
        raise LoadFailed(deserialize_phrase(answer["reason"]))
    raise LoadFailed(phrase("{who} could not be made ready to run.", who=display_name(source)))


def _find_cached(source: str, cache: Path, precision: str) -> Path | None:
    """The artifact of exactly these files, if finding it is quick."""
    checkpoint = Path(source)
    try:
        validate_folder(checkpoint, display_name(source))
        if sum(path.stat().st_size for path in allowed_files(checkpoint)) > MAX_INLINE_HASH_BYTES:
            return None
        folder = cache / _cache_key(checkpoint, precision)
        os.utime(folder)
    except OSError:
        return None  # not there, or unreadable: the build will report that
    return folder if (folder / METADATA_FILE).is_file() else None


def _cache_key(checkpoint: Path, precision: str) -> str:
    """The hash of the checkpoint's files and of how they are built."""
    made_for = f"{BUILD_VERSION} {version('onnxruntime')} {precision} {cpu_kind()}"
    digest = hashlib.sha256(made_for.encode())
    for path in sorted(allowed_files(checkpoint)):
        digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return f"{digest.hexdigest()[:32]}-{precision}"


def load_error_message(source: str, error: Exception) -> Phrase:
    """The message for people; the library's own goes to the operator's log."""
    log.warning("loading %s failed: %s", source, error)
    who, folder = display_name(source), Path(source)
    if is_out_of_memory(error):
        return out_of_memory_message(who)
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return phrase(
            "The disk is too full to make {who} ready to run: free some space, then try again.",
            who=who,
        )
    if isinstance(error, PermissionError) and error.filename is not None:
        file = error.filename
        return phrase("{file} cannot be read or written: give the bot permission.", file=file)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        return no_weights_message(who)
    if folder.exists():
        return phrase("{who} is damaged, or not a GPT-2 model.", who=who)
    if folder.is_absolute():
        return phrase("There is no model folder {who}.", who=who)
    return phrase(
        "{who} cannot be had: it is neither on this machine nor can the Hugging Face Hub be "
        "reached for it. Check the name and the connection.",
        who=who,
    )


def template_error_message(source: str, error: TemplateError) -> Phrase:
    """Quotes jinja's error, which helps the template's author."""
    who = display_name(source)
    return phrase("The chat template of {who} does not work: {why}.", who=who, why=error)


# --- in the child --------------------------------------------------------------------------------


def build(source: str, cache: Path, precision: str, limit_s: float | None = None) -> Path:
    """Build the artifact unless the cache has it; creates `cache`. After `limit_s` seconds, not
    counting a download, this process ends.

    Raises:
        LoadFailed: the message says why.
    """
    try:
        files = resolve_source(source)
        if limit_s is not None:
            faulthandler.dump_traceback_later(limit_s, exit=True)
        checkpoint = validate_folder(files, display_name(source))
        folder = cache / _cache_key(checkpoint.path, precision)
        if not (folder / METADATA_FILE).is_file():
            cache.mkdir(parents=True, exist_ok=True)
            _evict_old_builds(cache)
            _build(checkpoint, folder, source, precision)
        os.utime(folder)
        return folder
    except TemplateError as e:
        raise LoadFailed(template_error_message(source, e)) from e
    except RunawayModel as e:
        raise LoadFailed(runaway_message(display_name(source))) from e
    except LOAD_ERRORS as e:
        raise LoadFailed(load_error_message(source, e)) from e


def _build(checkpoint: ModelFolder, folder: Path, source: str, precision: str) -> None:
    config, who = checkpoint.config, display_name(source)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as aside:
        half_made = Path(aside) / folder.name
        half_made.mkdir()
        tokenizer = read_tokenizer(checkpoint.path, config, who, half_made)
        weights = Weights(checkpoint.tensors, who)
        shape = _shape(config, precision)
        isolated = _needs_isolation(tokenizer)
        reader = _isolate(tokenizer, half_made) if isolated else tokenizer
        meta = _meta(checkpoint, shape, weights, tokenizer, reader)
        if precision == "fp32":
            from model.convert.onnx_graph import write_graph

            write_graph(weights, shape, half_made)
        elif precision == "int8":
            meta = replace(meta, int8=_write_int8(weights, shape, meta, reader, half_made))
        if meta.int8 is not None:
            log.info("%s: %s", who, int8_message(meta.int8))
        _with_size(meta, half_made).save(half_made)
        with contextlib.suppress(OSError):  # another build was faster
            half_made.replace(folder)


def _shape(config: Mapping[str, Any], precision: str) -> GraphConfig:
    from model.convert.onnx_graph import GraphConfig, can_pack, find_max_int8_weight

    return GraphConfig(
        layers=config["n_layer"],
        heads=config["n_head"],
        width=config["n_embd"],
        epsilon=config.get("layer_norm_epsilon", 1e-5),
        activation=config.get("activation_function", "gelu_new"),
        scale_attn=bool(config.get("scale_attn_weights", True)),
        scale_attn_by_layer=bool(config.get("scale_attn_by_inverse_layer_idx")),
        precision=precision,
        max_int8_weight=find_max_int8_weight() if precision == "int8" else 127,
        packs=precision != "torch" and can_pack(),
    )


def _write_int8(
    weights: Weights, shape: GraphConfig, meta: ModelMetadata, reader: Tokenizer, folder: Path
) -> Int8Quality | None:
    from model.convert.int8.calibration_text import calibration_text
    from model.convert.int8.fit import write_int8

    text = calibration_text(reader, meta.positions, japanese=meta.japanese)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as scratch:
        return write_int8(weights, shape, text, folder, Path(scratch))


def _with_size(meta: ModelMetadata, folder: Path) -> ModelMetadata:
    file = folder / WEIGHTS_FILE
    return replace(meta, weight_bytes=file.stat().st_size) if file.exists() else meta


def _meta(
    checkpoint: ModelFolder,
    shape: GraphConfig,
    weights: Weights,
    tokenizer: Tokenizer,
    reader: Tokenizer,
) -> ModelMetadata:
    stops = stop_strings(tokenizer)
    ids = sorted(tokenizer.get_vocab().values())
    texts = tokenizer.decode_each(ids)
    rows = checkpoint.config["vocab_size"]
    control = control_tokens(reader)
    ends = {
        tokenizer.get_vocab()[tokenizer.eos_token],
        *control.values(),
        *(one for one in _end_ids(checkpoint) if 0 <= one < rows),
    }
    never = set(range(rows)) - set(ids)
    if tokenizer.unk_token in control and tokenizer.unk_token != tokenizer.eos_token:
        never.add(control[tokenizer.unk_token])
    on_a_stop = {n for n, text in zip(ids, texts, strict=True) if any(s in text for s in stops)}
    return ModelMetadata(
        checkpoint=str(checkpoint.path),
        parameters=weights.parameters,
        positions=checkpoint.config["n_positions"],
        vocabulary=checkpoint.config["vocab_size"],
        layers=shape.layers,
        heads=shape.heads,
        head_size=shape.padded_head_size,
        precision=shape.precision,
        weight_bytes=4 * weights.parameters,
        special_tokens=tokenizer.special_tokens_map,
        chat_template=tokenizer.chat_template,
        isolated=reader is not tokenizer,
        stops=list(stops),
        ends=sorted(ends),
        mute=sorted(ends | on_a_stop),
        fragments=[n for n, text in zip(ids, texts, strict=True) if REPLACEMENT_CHAR in text],
        never=sorted(never),
        japanese=is_japanese(tokenizer),
        packs=shape.packs,
    )


def _end_ids(checkpoint: ModelFolder) -> list[int]:
    """The tokens at which transformers ends a reply."""
    settings = read_json(checkpoint.path / GENERATION_CONFIG_FILE, checkpoint.path.name)
    return [
        *token_ids(settings.get("eos_token_id")),
        *token_ids(checkpoint.config.get("eos_token_id")),
    ]


def _needs_isolation(tokenizer: Tokenizer) -> bool:
    """Whether it holds a program: a chat template that is not ours, or a pattern."""
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    return tokenizer.chat_template not in OWN_TEMPLATES or has_regex(saved)


def _isolate(tokenizer: Tokenizer, folder: Path) -> IsolatedTokenizer:
    return IsolatedTokenizer(
        folder / TOKENIZER_FILE,
        special_tokens=tokenizer.special_tokens_map,
        chat_template=tokenizer.chat_template,
    )


def _evict_old_builds(cache: Path) -> None:
    """Remove the least recently used artifacts above the limit, and leftovers of killed builds."""
    kept = 0
    ages = {folder: time.time() - _last_used(folder) for folder in cache.iterdir()}
    for folder in sorted(ages, key=ages.__getitem__):
        half_made = folder.name.startswith(".")
        with contextlib.suppress(FileNotFoundError):  # another build removes it
            kept += 0 if half_made else sum(one.stat().st_size for one in folder.glob("*"))
        if ages[folder] > STALE_BUILD_S if half_made else kept > MAX_CACHE_BYTES:
            shutil.rmtree(folder, ignore_errors=True)


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another build was quicker
        return 0


def main() -> None:
    """Build what the command line says; print the folder, or the reason for failure, as JSON."""
    source, cache, precision, level, log_format = sys.argv[1:]
    end_with_parent()  # nobody waits for the result then; a later build removes the leftovers
    configure_logging(int(level), "json" if log_format == "json" else "text")
    try:
        answer = {"folder": str(build(source, Path(cache), precision, BUILD_LIMIT_S))}
    except LoadFailed as e:
        answer = {"reason": serialize_phrase(message_of(e))}
    sys.stdout.write(f"{json.dumps(answer)}\n")

"""Errors that end a run: the sentence for the admin, whether a retry may help, and which settings
would need less memory."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import torch

from core.errors import DISK_FULL_ERRNOS
from i18n.phrase import Phrase, join_phrases, message_of, phrase
from model.runners.device import is_out_of_memory, training_device
from training.config import TrainingConfig
from training.errors import BaseUnavailable, JobLocked, NotEnoughDisk, OutOfMemory, TrainingError
from training.jobs.estimate import max_batch_size, shape_of
from training.jobs.events import Failed
from training.jobs.folder import latest_saved_step

OS_ERROR_PATTERN = re.compile(
    r"os error (\d+)|PytorchStreamWriter failed writing|unexpected pos|iostream error"
)
"""How safetensors and torch report an error of the operating system. Which of its three sentences
torch uses depends on the part of the file that could not be written."""


def failure_event(error: BaseException, job: Path) -> Failed:
    """What the run of a job tells when an error ended it."""
    # A panic of the tokenizer's library is no Exception.
    known = error if isinstance(error, Exception) else ValueError(type(error).__name__)
    resumable = is_transient(known) and latest_saved_step(job) is not None
    return Failed(error_message(known), resumable=resumable)


def error_message(error: Exception) -> str:
    """The sentence about an error that ended the run."""
    match error:
        case TrainingError():
            return message_of(error)
        case _ if is_out_of_memory(error):
            return phrase(
                "There was not enough memory: try a smaller batch size or a smaller model."
            )
        case _ if _errno(error) in DISK_FULL_ERRNOS:
            return phrase("The disk is full: free some space, then start the training again.")
        case _:
            return phrase(
                "Training stopped with an error ({kind}); see the job's log.",
                kind=type(error).__name__,
            )


def is_transient(error: Exception) -> bool:
    """Whether the same run may succeed later: the machine lacked something."""
    lacking = NotEnoughDisk | OutOfMemory | BaseUnavailable | JobLocked
    return isinstance(error, lacking) or _errno(error) in DISK_FULL_ERRNOS


def _errno(error: Exception) -> int | None:
    """The error number of the operating system; safetensors and torch only put it in the text."""
    if isinstance(error, OSError):
        return error.errno
    found = OS_ERROR_PATTERN.search(str(error))
    if found is None:
        return None
    return int(found[1]) if found[1] else min(DISK_FULL_ERRNOS)


def out_of_memory_advice(config: TrainingConfig) -> Phrase:
    """What to lower when not even one example at a time fits, or several devices share the work."""
    text = phrase(
        "There was not enough memory for a batch of {size}: try {advice}.",
        size=config.batch_size,
        advice=_smaller_settings(config),
    )
    shape = shape_of(config.base) if config.base else None
    if shape is None:
        return text
    free = _free_mb()
    most = max_batch_size(shape, free_mb=free, max_length=config.max_length, method="lora")
    lora_fits = phrase("LoRA with batch size {most} fits", most=most)
    what_fits = lora_fits if most else phrase("not even LoRA fits")
    return phrase(
        "{text} By estimate, {what_fits} into the {free:,.0f} MB that are free.",
        text=text,
        what_fits=what_fits,
        free=free,
    )


def _smaller_settings(config: TrainingConfig) -> Phrase:
    """`a, b or c`: what takes less memory, the smallest loss first."""
    half, whole = config.max_length // 2, config.max_length
    others = [phrase("a smaller batch size")] if config.batch_size > 1 else []
    if config.max_length > 32:
        others.append(phrase("max_length {half} instead of {whole}", half=half, whole=whole))
    if config.method == "full":
        others.append(phrase("LoRA instead of full training"))
    last = phrase("a smaller base model")
    if not others:
        return last
    return phrase("{listed} or {last}", listed=join_phrases(others, ", "), last=last)


def _free_mb() -> float:
    """The memory that a run may use: on a GPU, all that no other process has taken."""
    if training_device().name != "cuda":
        return float(psutil.virtual_memory().available / 1e6)
    try:
        return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()) / 1e6
    except RuntimeError:  # the query itself needs a little memory
        return 0.0

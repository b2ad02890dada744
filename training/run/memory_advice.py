"""What to say when a run is out of memory: which setting to lower, and what would fit.

Knows the estimates and how much memory is free. Does not train.
"""

from __future__ import annotations

import psutil
import torch

from i18n.phrase import Phrase, join_phrases, phrase
from model.runners.device import training_device
from training.config import TrainingConfig
from training.jobs.estimate import max_batch_size, shape_of


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
    if most is None:
        return phrase(
            "{text} By estimate, not even LoRA fits into the {free:,.0f} MB that are free.",
            text=text,
            free=free,
        )
    return phrase(
        "{text} By estimate, LoRA with batch size {most} fits into the {free:,.0f} MB that are "
        "free.",
        text=text,
        most=most,
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

"""Estimates the memory and the time to train a GPT-2, from the sizes of the model alone.

Knows arithmetic and `config.json`. Does not know torch: the bot's process uses it before a run.
The estimates are for fp32 on a CPU; docs/benchmarks.md has measurements.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from model.convert.adapter_folder import is_adapter, validate_adapter
from model.errors import LoadFailed
from model.registry import display_name
from training.config import Method, Recipe

BASELINE_MB = 460
"""Python with torch and transformers imported (measured, Linux x86-64)."""
OVERHEAD_FACTOR = 1.05
"""Small tensors and the allocator take this much more.

Measured at 8 rows of 128 tokens (`python -m benchmarks.training --parts memory`): gpt2 3.06 GB,
gpt2-medium with LoRA 4.51 GB. The formula is 8 and 7 % above these, on the safe side.
"""
MAX_BATCH_SIZE = 64
"""The largest batch that `max_batch_size` tries."""
FP32_BYTES = 4
"""Bytes of a number in fp32."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a GPT-2; `vocabulary` is the number of rows of its head."""

    parameters: int
    layers: int
    width: int
    heads: int
    vocabulary: int


KNOWN_SHAPES = {
    "gpt2": ModelShape(124_439_808, 12, 768, 12, 50_257),
    "gpt2-medium": ModelShape(354_823_168, 24, 1024, 16, 50_257),
}
"""Shapes of models on the Hub, by id (Radford et al. 2019, as transformers counts them)."""


def shape_of(source: str) -> ModelShape | None:
    """The shape of a base, a folder with a `config.json` or a known Hub id; else None. An adapter
    has that of its base."""
    try:
        if is_adapter(source):
            return shape_of(validate_adapter(Path(source), display_name(source)).base)
        config = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
        layers, width, rows = config["n_layer"], config["n_embd"], config["vocab_size"]
        inner = config.get("n_inner") or 4 * width
        tables = 1 if config.get("tie_word_embeddings", True) else 2
        block = 4 * width * width + 2 * width * inner + 9 * width + inner
        embeddings = (tables * rows + config["n_positions"]) * width
        parameters = embeddings + layers * block + 2 * width
        return ModelShape(parameters, layers, width, config["n_head"], rows)
    except (OSError, ValueError, LookupError, TypeError, LoadFailed):
        return KNOWN_SHAPES.get(source)


def peak_memory_mb(
    shape: ModelShape,
    *,
    batch_size: int,
    max_length: int,
    method: Method,
    labelled: float = 0.5,
    recipe: Recipe = "talk",
) -> float:
    """The peak memory of a run, in MB, if all rows are `max_length` tokens long.

    A weight takes 4 bytes; a trained one 8 more for Adam's two moments (Kingma & Ba 2015), and 4
    for its gradient, which takes the place of activations that the backward pass has freed. That
    pass needs 18 values of the width for each token and block (counted as in Korthikanti et al.
    2022, section 4.1: 2 inputs of norms, 2 outputs, query, key, value, attention's output, 2
    dropouts, 8 around GELU) and for each head 3 rows of attention (softmax, dropout, their
    product). Logits are computed for the `labelled` share of the tokens only
    (`training.run.loop.logits_on_labels_only`): their logarithms and two gradients. Facts are
    learned beside a frozen copy of the base, which LoRA does without."""
    trained = shape.parameters if method == "full" else 0
    tokens = batch_size * max_length
    blocks = shape.layers * tokens * (18 * shape.width + 3 * shape.heads * max_length)
    logits = 3 * tokens * labelled * shape.vocabulary
    copies = 2 if recipe == "facts" and method == "full" else 1
    numbers = copies * shape.parameters + 2 * trained + max(blocks + logits, trained)
    return BASELINE_MB + OVERHEAD_FACTOR * FP32_BYTES * numbers / 1e6


def max_batch_size(
    shape: ModelShape, *, free_mb: float, max_length: int, method: Method
) -> int | None:
    """The largest batch, up to MAX_BATCH_SIZE, that fits into `free_mb`; None if not one row."""
    for batch_size in range(MAX_BATCH_SIZE, 0, -1):
        needed = peak_memory_mb(shape, batch_size=batch_size, max_length=max_length, method=method)
        if needed <= free_mb:
            return batch_size
    return None


def training_seconds(
    shape: ModelShape,
    tokens: float,
    *,
    flops_per_s: float,
    method: Method = "full",
    labelled: float = 0.5,
) -> float:
    """The duration of training on `tokens` (of all epochs together).

    A token costs 2 operations a weight forward and 4 backward, counting the matrices of the blocks,
    12 * layers * width**2 weights (Kaplan et al. 2020, section 2.1), and the head for the
    `labelled` share. With LoRA the frozen weights need no gradient: 2 backward."""
    matrices = 12 * shape.layers * shape.width**2 + labelled * shape.vocabulary * shape.width
    return tokens * (6 if method == "full" else 4) * matrices / flops_per_s

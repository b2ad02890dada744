"""Previews a run before it is started: its rows, tokens and steps, its time and memory.

Knows the data set, tokenizers and arithmetic. Never imports torch or transformers: the bot's
process uses it, in a thread. Time and memory are estimates.
"""

from __future__ import annotations

import heapq
import json
import random
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from core.japanese import count_japanese_chars
from core.records import Conversation
from data.dataset.cleaning import Selection
from data.dataset.preferences import PreferenceCounts
from data.dataset.snapshot import learned_talks
from model.chat_template import from_pair
from model.control_tokens import escape_control_tokens
from model.runners.device import available_cores
from training.checkpoints import Manifest
from training.config import TrainingConfig, steps_per_epoch, total_steps
from training.jobs.estimate import ModelShape, peak_memory_mb, shape_of, training_seconds
from training.run.curriculum import rows_per_epoch, sample_rows
from training.run.mixing import mix_replay

MAX_SAMPLED_ROWS = 1000
"""Rows whose tokens are counted; of more, a sample."""
CONTROL_TOKENS_PER_MESSAGE = 2
"""One for the speaker, one for the end of the message."""
CHARS_PER_TOKEN = 4
"""In English (OpenAI's rule of thumb for GPT-2's tokenizer)."""
JAPANESE_CHAR_WEIGHT = 6
"""English characters that take as many tokens as one Japanese (`python -m benchmarks.tokens`)."""
START_S = 10.0
"""Seconds until the first step, mostly to import torch and transformers."""
CHECKED_TOKENS = 20_000
"""Tokens that the checks read and write, about; without a backward pass, a third of the work."""
EFFICIENCY = 0.5
"""The share of a processor's matrix-multiplication speed that training reaches, roughly."""
BENCHMARK_S, MIN_MATMULS = 0.05, 10
"""Seconds for which that speed is measured, and the least number of multiplications."""

TokenCounter = Callable[[Conversation], int]


@dataclass(frozen=True, slots=True)
class Preview:
    """The size and the cost of a run; None where something is not known.

    `tokens` are those of one epoch, cut as training cuts them; `exact` says that the model's own
    tokenizer counted them, else they are estimated from characters. `epochs` are those that `steps`
    amount to. `longest` is the longest example in tokens, uncut. `preferences` counts the votes and
    better answers; None if they are not learned from."""

    selection: Selection
    rows: int
    tokens: int
    exact: bool
    steps: int
    epochs: float
    seconds: float | None
    memory_mb: float | None
    free_mb: float | None
    longest: int
    preferences: PreferenceCounts | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """An earlier run from the same base: its speed, and the time of its start and checks."""

    tokens_per_s: float
    overhead_s: float


def preview(
    selection: Selection, config: TrainingConfig, earlier: Measured | None = None
) -> Preview:
    """Preview a run with these examples and settings; blocks for about a second at most.

    Without an `earlier` run the time is estimated from this machine's speed."""
    taught: list[Conversation] = [
        tuple(message for one in talk for message in from_pair(one.user, one.bot))
        for talk in learned_talks(selection.kept)
    ]
    rows, sample = _rows(config, taught)
    exact = _exact_counter(config.base)
    count = exact or _estimate_tokens
    lengths = [min(count(row), config.max_length) for row in sample]
    tokens = round(sum(lengths) * rows / max(1, len(lengths)))
    steps = total_steps(config, rows)
    epochs = steps / max(1, steps_per_epoch(config, rows))
    shape = shape_of(config.base) if config.base else None
    return Preview(
        selection=selection,
        rows=rows,
        tokens=tokens,
        exact=exact is not None,
        steps=steps,
        epochs=epochs,
        seconds=_seconds(shape, config, tokens * epochs, earlier) if rows else 0.0,
        memory_mb=None
        if shape is None
        else peak_memory_mb(
            shape,
            batch_size=config.batch_size,
            max_length=max(lengths, default=1),
            method=config.method,
            labelled=0.5 if config.loss_on == "bot" else 1.0,
            recipe=config.recipe,
        ),
        free_mb=None if _has_gpu() else psutil.virtual_memory().available / 1e6,
        longest=max(map(count, heapq.nlargest(20, taught, key=_weighted_chars)), default=0),
    )


def _rows(config: TrainingConfig, taught: list[Conversation]) -> tuple[int, list[Conversation]]:
    """How many rows an epoch has, and some of them."""
    if config.recipe == "facts":
        return rows_per_epoch(config, len(taught)), sample_rows(config, taught, MAX_SAMPLED_ROWS)
    rows = mix_replay(config, taught)
    return len(rows), random.Random(0).sample(rows, min(len(rows), MAX_SAMPLED_ROWS))


def newest_measured(former: Iterable[Manifest], base: str, method: str) -> Measured | None:
    """The newest run that trained so from that base, if there was one."""
    runs = [
        one
        for one in former
        if one.base_name == base and one.settings.get("method") == method and one.tokens_per_s > 0
    ]
    newest = max(runs, key=lambda one: one.created_at, default=None)
    if newest is None:
        return None
    return Measured(newest.tokens_per_s, newest.overhead_s or START_S)


def _exact_counter(base: str | None) -> TokenCounter | None:
    """Counts tokens as training does; None if the base has no tokenizer on this disk."""
    file = Path(base or "") / "tokenizer.json"
    if not file.is_file():
        return None
    from model.tokenizer import Tokenizer, has_regex  # not at import: the bot starts without it

    try:
        tokenizer = Tokenizer(file, special_tokens={}, chat_template="")
    except Exception:  # the library has no class of its own for a broken file
        return None
    if has_regex(json.loads(tokenizer.backend_tokenizer.to_str())):
        return None  # a stranger's pattern may run for ever, and this is the bot's process

    def count(turns: Conversation) -> int:
        texts = [escape_control_tokens(tokenizer, message.content) for message in turns]
        return sum(CONTROL_TOKENS_PER_MESSAGE + len(tokenizer.encode(text)) for text in texts)

    return count


def _estimate_tokens(turns: Conversation) -> int:
    return CONTROL_TOKENS_PER_MESSAGE * len(turns) + _weighted_chars(turns) // CHARS_PER_TOKEN


def _weighted_chars(turns: Conversation) -> int:
    """Characters, a Japanese one counted as JAPANESE_CHAR_WEIGHT."""
    texts = [message.content for message in turns]
    return sum(map(len, texts)) + (JAPANESE_CHAR_WEIGHT - 1) * sum(map(count_japanese_chars, texts))


def _seconds(
    shape: ModelShape | None, config: TrainingConfig, tokens: float, earlier: Measured | None
) -> float | None:
    """The time of the whole run, with its start and its checks."""
    if earlier:
        return earlier.overhead_s + tokens / earlier.tokens_per_s
    if shape is None or _has_gpu():
        return None
    share = min(1.0, config.threads / available_cores()) if config.threads else 1.0
    flops_per_s = EFFICIENCY * share * _matmul_flops_per_s()
    checks = training_seconds(shape, CHECKED_TOKENS / 3, flops_per_s=flops_per_s)
    training = training_seconds(shape, tokens, flops_per_s=flops_per_s, method=config.method)
    return START_S + training + checks


def _has_gpu() -> bool:
    """Whether a run would use an NVIDIA GPU, whose speed and memory are not known without torch."""
    return shutil.which("nvidia-smi") is not None


def _matmul_flops_per_s() -> float:
    """Floating-point operations a second of this machine in fp32 matrix multiplication. By the
    fastest of several, since one that loses its core to other work takes twenty times as long."""
    import numpy as np  # not at import: the bot starts without it

    size = 512
    matrix = np.ones((size, size), dtype=np.float32)
    matrix @ matrix  # the first one starts the library's threads
    moments = [time.perf_counter()]
    while moments[-1] - moments[0] < BENCHMARK_S or len(moments) <= MIN_MATMULS:
        matrix @ matrix
        moments.append(time.perf_counter())
    return 2 * size**3 / min(after - before for before, after in pairwise(moments))

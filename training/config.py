"""The settings of one training run, stored as JSON in its folder.

Knows no tensors, and no paths but those it is given.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from data.dataset.preferences import PreferenceCounts
from i18n.catalogue import ENGLISH
from model.registry import is_embedded

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Recipe = Literal["facts", "talk"]
Method = Literal["full", "lora"]
Optimizer = Literal["adamw", "muon"]
MAX_FACTS = 300
"""With more pairs a data set is talk to imitate rather than facts to know, and its size alone keeps
a model from learning it word for word."""
TAUGHT_FILE_PAIRS = 200
"""A file with fewer pairs is rather taught than imitated, if nobody says which."""
LORA_RATE_FACTOR = 10
"""LoRA's learning rate as a multiple of that for all weights."""
ALL_MATRICES = ("c_attn", "c_proj", "c_fc")
"""The matrices of a GPT-2 block that LoRA can learn beside: all, as QLoRA (Dettmers et al. 2023)
found best for instructions."""
FACTS_LORA_TARGETS, FACTS_LORA_RANK = ("c_attn", "attn.c_proj"), 32
"""Those of attention suffice for facts: they are recalled, and all else is kept, as well as after
training all weights. The engine takes ranks up to `model.convert.adapter_folder.MAX_RANK`."""
MAX_LEARNING_RATE = 1e-2
"""The largest learning rate, chosen by default or by an admin."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A GPT-2 to train from random weights. Sizes as in `transformers.GPT2Config`."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """The folder of a checkpoint that learned what is to be left out, and the data set that it
    learned from."""

    checkpoint: str
    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """The settings of `training.run`.

    `base` is a checkpoint folder or a Hub id; with `architecture` it is None and the run starts
    from random weights and a tokenizer of its own. `batch_size` counts examples (blocks, if
    `packing`) for each device and step; the effective batch is that times `gradient_accumulation`.
    `max_length` is in tokens. `min_steps` raises `epochs` where a few examples would otherwise be
    seen too seldom to be learned. `loss_on` "bot" trains on the bot's tokens only. `replay` starter
    pairs are mixed in against forgetting.

    `recipe` "facts" learns pairs as facts, asked in many ways, and keeps everything else as it is
    (`training.run.curriculum`); "talk" learns the conversations as they are.

    `method` "lora" learns small matrices of `lora_rank` beside the frozen ones named in
    `lora_targets` (Hu et al. 2021): an adapter of the base, of which a copy lies in the folder
    `shared_bases` unless it is an embedded model. Without that folder, or on top of what was
    learned before, they are merged into a model of its own (`training.run.shared_base`).

    `base_name` is what people call the base, `parents` the checkpoints that it came from, newest
    first; `serving` is the folder or Hub id of the model in service. `gate` says whether the new
    model is checked and compared with these; `blend`, whether its weights are interpolated with the
    base's (`training.run.interpolation`). Every `save_every_s` seconds a step
    is saved to resume from. `examples` is the number of stored examples that are learned; 0 if they
    do not come from a server's data set. Plots are labelled in `language`. A clean retrain
    `replaces` a checkpoint, and measures that what was taken out is gone
    (`training.run.forgetting`). `clean` says that it is a clean retrain, even if there is nothing
    left to compare with. `preferences` counts what is learned from votes, if anything is.
    Earlier versions did not store these five, `lora_targets` and `shared_bases`."""

    name: str
    base: str | None
    architecture: Architecture | None = None
    epochs: float = 3.0
    min_steps: int = 0
    batch_size: int = 8
    gradient_accumulation: int = 1
    learning_rate: float = 3e-5
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    max_length: int = 128
    precision: Precision = "auto"
    seed: int = 0
    loss_on: Literal["bot", "all"] = "bot"
    packing: bool = False
    replay: int = 0
    threads: int | None = None
    recipe: Recipe = "talk"
    method: Method = "full"
    lora_rank: int = 8
    lora_targets: tuple[str, ...] = ALL_MATRICES
    shared_bases: str | None = None
    optimizer: Optimizer = "adamw"
    base_name: str = ""
    parents: tuple[str, ...] = ()
    serving: str | None = None
    gate: bool = True
    blend: bool = False
    save_every_s: float = 60.0
    language: str = ENGLISH
    examples: int = 0
    replaces: Replaced | None = None
    clean: bool = False
    preferences: PreferenceCounts | None = None

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """Read what `save` wrote. Raises ValueError: not JSON, or not these settings."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError(f"{path} is not a JSON object of training settings")
        architecture, replaces = (fields.pop(one, None) for one in ("architecture", "replaces"))
        try:
            fields["parents"] = tuple(fields.get("parents", ()))
            fields["lora_targets"] = tuple(fields.get("lora_targets", ALL_MATRICES))
            if counts := fields.get("preferences"):
                fields["preferences"] = PreferenceCounts(**counts)
            return cls(
                architecture=architecture and Architecture(**architecture),
                replaces=replaces and Replaced(**replaces),
                **fields,
            )
        except TypeError as e:
            raise ValueError(f"{path} has settings that are not known: {e}") from e


def total_steps(config: TrainingConfig, rows: int, processes: int = 1) -> int:
    """The optimiser steps of a run over `rows` rows, on `processes` devices."""
    steps = steps_per_epoch(config, rows, processes) * config.epochs
    return max(math.ceil(steps), config.min_steps)


def steps_per_epoch(config: TrainingConfig, rows: int, processes: int = 1) -> int:
    """The optimiser steps in which each row is seen once."""
    return math.ceil(rows / (config.batch_size * config.gradient_accumulation * processes))


def halve_batch_size(config: TrainingConfig) -> TrainingConfig:
    """Half the batch, and more gradient accumulation: the effective batch stays the same."""
    half = max(1, config.batch_size // 2)
    times = round(config.batch_size / half)
    return replace(
        config, batch_size=half, gradient_accumulation=config.gradient_accumulation * times
    )


def defaults_for(
    name: str, source: str, pairs: int, method: Method | None = None
) -> TrainingConfig:
    """The settings for fine-tuning a model on so many pairs, unless an admin chooses others.

    Without a `method`, facts are learned by LoRA and talk by all weights. LoRA comes with a higher
    learning rate of its own."""
    usual = _full_defaults(name, source, pairs)
    facts = usual.recipe == "facts"
    if (method or ("lora" if facts else "full")) == "full":
        return usual
    lora = replace(usual, method="lora", learning_rate=lora_learning_rate(usual))
    if not facts:
        return lora
    return replace(lora, lora_rank=FACTS_LORA_RANK, lora_targets=FACTS_LORA_TARGETS)


def _full_defaults(name: str, source: str, pairs: int) -> TrainingConfig:
    """The settings for training all weights.

    An embedded model needs large steps; larger ones learn at about the rate that GPT-2 is usually
    fine-tuned with. Facts are asked in new ways each time, so an epoch shows little of a pair."""
    usual = TrainingConfig(name=name, base=source)
    if pairs > MAX_FACTS:
        if not is_embedded(name):
            return replace(usual, min_steps=100, replay=20, blend=True)
        return replace(
            usual, learning_rate=2e-4, epochs=5, batch_size=16, replay=91, blend=True, threads=1
        )
    facts = replace(usual, recipe="facts", batch_size=18)
    if not is_embedded(name):
        return replace(facts, min_steps=100, epochs=40)
    return replace(
        facts,
        learning_rate=7e-4,
        min_steps=min(200, 80 + 12 * pairs),
        epochs=100,
        threads=1,  # more would mostly wait for each other, and take cores from the chat
    )


def lora_learning_rate(full: TrainingConfig) -> float:
    """LoRA's learning rate, from the settings for all weights."""
    return min(LORA_RATE_FACTOR * full.learning_rate, MAX_LEARNING_RATE)

"""A retrain before it starts, as an embed: what is learned, what it costs, and every setting.

Pure: takes what `TrainingManager.preview` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import discord

from bot.looks import BLURPLE, LONGEST_TITLE, add_fields, author_text
from data.samples import MASKED
from model.registry import ModelOption
from training.config import Method, TrainingConfig
from training.preview import Preview
from training.progress import duration

AUTHORS = 5
"""Members whose share is shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A retrain that waits for the admin's "Start"."""

    scope: int
    channel_id: int
    base: ModelOption
    config: TrainingConfig
    preview: Preview


def plan_embed(plan: Plan, number_format: str) -> discord.Embed:
    """What would be learned, how long that takes, and every setting."""
    embed = discord.Embed(
        title=f"Retrain from {plan.base.name}?"[:LONGEST_TITLE],
        colour=BLURPLE,
        description=(
            f"I learn {examples_text(len(plan.preview.selection.kept))} in a process of its own. "
            "The new model answers here once it has passed its checks; "
            "if anything fails, the old one stays."
        ),
    )
    add_fields(embed, data_fields(plan.preview))
    add_fields(embed, cost_fields(plan.preview, plan.config.method))
    add_fields(embed, setting_fields(plan.config, number_format, plan.preview.longest))
    return embed


def data_fields(preview: Preview) -> list[tuple[str, str]]:
    """Where the examples come from, and what is not learned of them."""
    selection = preview.selection
    cleaned = counted({rule: n for rule, n in selection.changed.items() if rule != MASKED})
    return [
        ("Examples", counted(selection.by_source) or "none"),
        ("Left out", counted(selection.dropped) or "none"),
        *([("Cleaned", cleaned)] if cleaned else []),
        ("By author", shares(selection.by_author) or "nobody"),
        ("Masked", counted(selection.masked) or "nothing found"),
    ]


def cost_fields(preview: Preview, method: Method) -> list[tuple[str, str]]:
    """How much there is to compute."""
    about = "" if preview.exact else "about "
    return [
        ("Rows", f"{preview.rows:,}"),
        ("Tokens an epoch", f"{about}{preview.tokens:,}"),
        ("Steps", f"{preview.steps:,} ({preview.epochs:.3g} epochs)"),
        ("Time", "not known" if preview.seconds is None else f"about {duration(preview.seconds)}"),
        ("Memory", memory_text(preview.memory_mb, preview.free_mb, method)),
    ]


def memory_text(needed: float | None, free: float | None, method: Method) -> str:
    """What a run takes and what there is, in MB; with advice where it does not fit."""
    if needed is None:
        return "not known"
    text = f"about {needed:,.0f} MB"
    if free is None:
        return text
    text += f", {free:,.0f} MB are free"
    if needed <= free:
        return text
    advice = "LoRA (`method: lora`) or a smaller base" if method == "full" else "a smaller base"
    return f"⚠️ {text}. It may not fit: choose {advice}."


def setting_fields(
    config: TrainingConfig, number_format: str, longest: int
) -> list[tuple[str, str]]:
    """Every setting of the run."""
    epochs = f"{config.epochs:g}"
    if config.min_steps:
        epochs += f" (at least {config.min_steps} steps)"
    accumulation = f"{config.gradient_accumulation}"
    if config.gradient_accumulation > 1:
        accumulation += f" (effective batch {config.gradient_accumulation * config.batch_size})"
    fields = [
        ("Base", config.base_name or config.name),
        ("Method", method_text(config.method, config.lora_rank)),
        ("Epochs", epochs),
        ("Batch size", f"{config.batch_size}"),
        ("Gradient accumulation", accumulation),
        ("Learning rate", f"{config.learning_rate:g}"),
        ("Warm-up", f"{100 * config.warmup_ratio:g} % of the steps"),
        ("Weight decay", f"{config.weight_decay:g}"),
        ("Number format", number_format),
        ("Longest example", longest_text(longest, config.max_length)),
        ("Loss on", "the bot's tokens only" if config.loss_on == "bot" else "every token"),
        ("Mixed in", mixed_text(config.replay)),
    ]
    if config.threads is not None:
        fields.append(("Threads", f"{config.threads}"))
    return fields


def method_text(method: str, rank: int | None) -> str:
    """How the weights are changed."""
    return f"LoRA, rank {rank}" if method == "lora" else "full fine-tuning"


def mixed_text(replay: int) -> str:
    """What keeps old manners: so many of this project's own pairs, and of general talk."""
    if not replay:
        return "nothing"
    return f"up to {replay} starter pairs and {replay} conversations of general talk"


def longest_text(longest: int, limit: int) -> str:
    """The longest example in tokens, and what becomes of it where the limit is lower."""
    if longest <= limit:
        return f"{longest} tokens (at most {limit})"
    return f"{longest} tokens, of which the last {limit} are read"


def counted(counts: Mapping[str, int]) -> str:
    """`teach 12, import 3`, the most first; empty for nothing."""
    most_first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{name} {count}" for name, count in most_first if count)


def shares(authors: Mapping[int, int]) -> str:
    """`<@7> 75 %, <@8> 25 %`: who taught how much, the most first."""
    total = sum(authors.values())
    most_first = sorted(authors.items(), key=lambda one: (-one[1], one[0]))
    shown = [
        f"{author_text(who)} {100 * count / total:.0f} %" for who, count in most_first[:AUTHORS]
    ]
    if more := len(most_first) - AUTHORS:
        shown += [f"{more} more"] if more > 0 else []
    return ", ".join(shown)


def examples_text(count: int) -> str:
    """`1 example`, `2 examples`."""
    return f"{count} example" if count == 1 else f"{count} examples"

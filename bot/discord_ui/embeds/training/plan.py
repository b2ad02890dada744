"""The plan of a retrain as cards: in three lines, and in full with its data, its cost and every
setting. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bot.discord_ui.embeds.spelling import plan_warning
from bot.discord_ui.embeds.style import (
    Card,
    Fact,
    author_text,
    card,
    examples_text,
    fact_lines,
    format_counts,
    source_text,
)
from bot.learning.retraining import RetrainPlan
from core.records import OPERATOR_AUTHOR_ID
from data.dataset.cleaning import CHAT_SOURCE
from data.dataset.preferences import MIN_ROWS, PreferenceCounts
from data.dataset.samples import PII_RULE
from i18n.phrase import Phrase, phrase, phrases
from i18n.reader import say
from training.config import Method, TrainingConfig
from training.jobs.events import format_duration
from training.jobs.preview import Preview

MAX_AUTHORS_SHOWN = 5
"""Members whose share is listed."""
NOTHING_AT_RISK = phrase("Nothing is at risk: the new model is used only if it passes its checks.")


def plan_summary_card(plan: RetrainPlan) -> Card:
    """The plan that the admin confirms with "Start": what is learned, how long it takes, and what
    could go wrong, a line each."""
    lines = [learned_line(plan), time_line(plan.preview.seconds), *risk_lines(plan)]
    return card(say("Retrain?"), "\n".join(lines))


def learned_line(plan: RetrainPlan) -> str:
    """How much is learned, and from which base; how much of it was collected from conversations,
    or else how many people taught it, unless the operator did too."""
    selection = plan.preview.selection
    left_out = sum(selection.dropped.values())
    known = {
        "things": phrases("{count} thing", "{count:,} things", len(selection.kept)),
        "base": plan.base.name,
        "left_out": phrase(" ({count:,} left out)", count=left_out) if left_out else "",
    }
    if collected := selection.by_source.get(CHAT_SOURCE):
        return say(
            "I learn {things}, {count:,} from conversations, on top of `{base}`{left_out}.",
            count=collected,
            **known,
        )
    if OPERATOR_AUTHOR_ID in selection.by_author:
        return say("I learn {things}, on top of `{base}`{left_out}.", **known)
    people = phrases("{count} person", "{count:,} people", len(selection.by_author))
    return say(
        "I learn {things} that {people} taught, on top of `{base}`{left_out}.",
        people=people,
        **known,
    )


def time_line(seconds: float | None) -> str:
    """How long it takes, and that nobody has to wait."""
    if seconds is None:
        return say("How long it takes is not known; people can keep chatting meanwhile.")
    return say(
        "It takes about {time}; people can keep chatting meanwhile.", time=format_duration(seconds)
    )


def risk_lines(plan: RetrainPlan) -> list[str]:
    """Each warning that asks for another base or method; if there is none, what else is to be
    known before the start."""
    preview, config = plan.preview, plan.config
    warnings = []
    if _may_not_fit(preview.memory_mb, preview.free_mb):
        advice = _memory_advice(config.method)
        warnings.append(say("⚠️ Memory may run out: choose {advice}.", advice=advice))
    if plan.hard_answers:
        warnings.append(plan_warning(plan.hard_answers))
    if not warnings and preview.longest > config.max_length:
        longest = longest_text(preview.longest, config.max_length)
        warnings.append(say("The longest example is cut: {longest}.", longest=longest))
    return warnings or [say(NOTHING_AT_RISK)]


def plan_card(plan: RetrainPlan, number_format: str, names: Mapping[int, str]) -> Card:
    """The plan in full; `names` are those of the main authors."""
    summary = say(
        "I learn {examples} in a separate process. The new model answers here once it "
        "has passed its checks; if anything fails, the old one stays.",
        examples=examples_text(len(plan.preview.selection.kept)),
    )
    warning = plan_warning(plan.hard_answers)
    facts = (
        data_facts(plan.preview, names),
        cost_facts(plan.preview, plan.config.method),
        setting_facts(plan.config, number_format, plan.preview.longest),
    )
    return card(
        say("Retrain from {base}?", base=plan.base.name),
        f"{summary}\n{warning}" if warning else summary,
        *map(fact_lines, facts),
    )


def data_facts(preview: Preview, names: Mapping[int, str]) -> list[Fact]:
    """Where the examples come from, and what is left out of them."""
    selection = preview.selection
    cleaned = format_counts(
        {say(rule): n for rule, n in selection.rule_counts.items() if rule != PII_RULE}
    )
    by_source = {source_text(source): n for source, n in selection.by_source.items()}
    dropped = {say(reason): n for reason, n in selection.dropped.items()}
    masked = {say(kind): n for kind, n in selection.pii_counts.items()}
    return [
        (say("Examples"), format_counts(by_source) or say("none")),
        (say("Left out"), format_counts(dropped) or say("none")),
        *([(say("Cleaned"), cleaned)] if cleaned else []),
        (say("By author"), format_shares(selection.by_author, names) or say("nobody")),
        (say("Masked"), format_counts(masked) or say("nothing found")),
        (say("Votes"), votes_text(preview.preferences)),
    ]


def votes_text(counts: PreferenceCounts | None) -> str:
    """What is learned from votes and better answers after the examples, or why nothing is."""
    if counts is None:
        return say("not learned from (`LEARN_FROM_VOTES` is off)")
    if not counts.rows:
        return say("none to learn from")
    opinions = counts.as_text()
    if not counts.suffice:
        return say("{opinions}: too few, I need {least}", opinions=opinions, least=MIN_ROWS)
    return say("{opinions}, if the model is better for it", opinions=opinions)


def cost_facts(preview: Preview, method: Method) -> list[Fact]:
    """Steps, time and memory."""
    tokens, seconds = f"{preview.tokens:,}", preview.seconds
    steps = say("{steps:,} ({epochs:.3g} epochs)", steps=preview.steps, epochs=preview.epochs)
    return [
        (say("Rows"), f"{preview.rows:,}"),
        (say("Tokens an epoch"), tokens if preview.exact else _about(tokens)),
        (say("Steps"), steps),
        (say("Time"), say("not known") if seconds is None else _about(format_duration(seconds))),
        (say("Memory"), memory_text(preview.memory_mb, preview.free_mb, method)),
    ]


def _about(it: str) -> str:
    return say("about {it}", it=it)


def memory_text(needed: float | None, free: float | None, method: Method) -> str:
    """The memory that a run needs and what is free, in MB; with advice if it may not fit."""
    if needed is None:
        return say("not known")
    if free is None:
        return say("about {needed:,.0f} MB", needed=needed)
    text = phrase("about {needed:,.0f} MB, {free:,.0f} MB are free", needed=needed, free=free)
    if not _may_not_fit(needed, free):
        return say(text)
    advice = _memory_advice(method)
    return say("⚠️ {text}. It may not fit: choose {advice}.", text=text, advice=advice)


def _may_not_fit(needed: float | None, free: float | None) -> bool:
    return needed is not None and free is not None and needed > free


def _memory_advice(method: Method) -> Phrase:
    if method == "full":
        return phrase("LoRA (`method: lora`) or a smaller base")
    return phrase("a smaller base")


def setting_facts(config: TrainingConfig, number_format: str, longest: int) -> list[Fact]:
    """Every setting of the run."""
    epochs = f"{config.epochs:g}"
    if config.min_steps:
        epochs = say("{epochs} (at least {steps} steps)", epochs=epochs, steps=config.min_steps)
    times, size = config.gradient_accumulation, config.batch_size
    accumulation = f"{times}"
    if times > 1:
        accumulation = say("{times} (effective batch {batch})", times=times, batch=times * size)
    only_bot = config.loss_on == "bot"
    facts = [
        (say("Base"), config.base_name or config.name),
        (say("Method"), method_text(config.method, config.lora_rank)),
        (say("Epochs"), epochs),
        (say("Batch size"), f"{size}"),
        (say("Gradient accumulation"), accumulation),
        (say("Learning rate"), f"{config.learning_rate:g}"),
        (say("Warm-up"), say("{percent:g} % of the steps", percent=100 * config.warmup_ratio)),
        (say("Weight decay"), f"{config.weight_decay:g}"),
        (say("Number format"), number_format),
        (say("Longest example"), longest_text(longest, config.max_length)),
        (say("Loss on"), say("the bot's tokens only") if only_bot else say("every token")),
        (say("Mixed in"), mixed_text(config)),
    ]
    if config.threads is not None:
        facts.append((say("Threads"), f"{config.threads}"))
    return facts


def method_text(method: str, rank: int | None) -> str:
    """The training method."""
    return say("LoRA, rank {rank}", rank=rank) if method == "lora" else say("full fine-tuning")


def mixed_text(config: TrainingConfig) -> str:
    """What counters forgetting: questions that only look alike, this project's own pairs, general
    talk."""
    if config.recipe == "facts":
        return say("questions that only look alike, and general talk: answered as the base does")
    if not config.replay:
        return say("nothing")
    return say(
        "up to {replay} starter pairs and {replay} conversations of general talk",
        replay=config.replay,
    )


def longest_text(longest: int, limit: int) -> str:
    """The longest example in tokens, and how it is truncated if it exceeds the limit."""
    if longest <= limit:
        return say("{longest} tokens (at most {limit})", longest=longest, limit=limit)
    return say("{longest} tokens, of which the last {limit} are read", longest=longest, limit=limit)


def main_authors(authors: Mapping[int, int]) -> list[int]:
    """Those whose share is shown, the largest first; `authors` has the examples of each."""
    most_first = sorted(authors, key=lambda one: (-authors[one], one))
    return most_first[:MAX_AUTHORS_SHOWN]


def format_shares(authors: Mapping[int, int], names: Mapping[int, str]) -> str:
    """`ada 75 %, ben 25 %`: the share of each author, largest first."""
    total = sum(authors.values())
    shown = [
        f"{author_text(who, names)} {100 * authors[who] / total:.0f} %"
        for who in main_authors(authors)
    ]
    if more := len(authors) - MAX_AUTHORS_SHOWN:
        shown += [say("{count} more", count=more)] if more > 0 else []
    return say(", ").join(shown)

"""The evaluation of a new checkpoint as an embed: losses, and what it answered wrongly. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import discord

from bot.discord_ui.embeds.style import BLURPLE, quote_safely
from i18n.phrase import phrase
from i18n.reader import say
from training.checkpoints import StoredReport
from training.jobs.events import format_duration

MAX_FAILURES_SHOWN = 5
"""Wrong answers that are shown: an embed may have 6,000 characters."""
MAX_ANSWERS_SHOWN = 3
"""Answers shown side by side, of checkpoints whose reports have nothing else."""
LOSS_SET_LABELS = {"general": phrase("General talk (held out)"), "own": phrase("What was taught")}
MODEL_LABELS = {"base": phrase("base"), "serving": phrase("in service"), "new": phrase("new")}


def comparison_embed(report: StoredReport) -> discord.Embed | None:
    """The comparison of a checkpoint with its base and the model in service."""
    embed = discord.Embed(title=say("Before and after"), colour=BLURPLE)
    if losses := _losses(report.losses):
        embed.add_field(name=say("Loss (lower is better)"), value=losses, inline=False)
    if report.summary:
        embed.add_field(name=say("Asked as people ask"), value=say(report.summary), inline=False)
        _add_failures(embed, report.failures)
    else:
        _add_answers(embed, report.answers)
    if report.votes:
        embed.add_field(name=say("Votes"), value=say(report.votes), inline=False)
    if data := report.data:
        embed.add_field(name=say("Data"), value=f"+{data['added']} −{data['removed']}")
    if report.seconds is not None:
        embed.add_field(name=say("Time taken"), value=say(format_duration(report.seconds)))
    return embed if embed.fields else None


def _add_failures(embed: discord.Embed, failures: Sequence[Mapping[str, str]]) -> None:
    for one in failures[:MAX_FAILURES_SHOWN]:
        embed.add_field(
            name=say("“{asked}”", asked=quote_safely(one["prompt"], 100)),
            value=say("{reply} ({wrong})", reply=_said(one["reply"]), wrong=one["wrong"]),
            inline=False,
        )
    if (more := len(failures) - MAX_FAILURES_SHOWN) > 0:
        embed.set_footer(text=say("{more} more wrong answers are in report.json.", more=more))


def _add_answers(embed: discord.Embed, answers: Sequence[Mapping[str, str | None]]) -> None:
    for one in answers[:MAX_ANSWERS_SHOWN]:
        embed.add_field(
            name=say("“{asked}”", asked=quote_safely(one["prompt"] or "", 100)),
            value=say(
                "before: {before}\nafter: {after}",
                before=_said(one["before"]),
                after=_said(one["after"]),
            ),
            inline=False,
        )


def _losses(losses: Mapping[str, Mapping[str, float | None]]) -> str:
    lines = [(label, losses_text(losses.get(name, {}))) for name, label in LOSS_SET_LABELS.items()]
    return "\n".join(
        say("{label}: {known}", label=label, known=known) for label, known in lines if known
    )


def losses_text(losses: Mapping[str, float | None]) -> str:
    """`base 3.81 · new 3.55`: the known losses on one set; empty if there are none."""
    known = ((who, losses.get(model)) for model, who in MODEL_LABELS.items())
    return " · ".join(f"{say(who)} {loss:.2f}" for who, loss in known if loss is not None)


def _said(text: str | None) -> str:
    return quote_safely(text, 200) if text and text.strip() else say("*nothing*")

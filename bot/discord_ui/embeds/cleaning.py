"""The effect of cleaning as an embed: each rule with a sample, and what is left out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import discord

from bot.discord_ui.embeds.style import BLURPLE, MAX_VALUE_CHARS, quote_safely
from data.dataset.cleaning import Selection
from i18n.phrase import join_phrases, phrase, phrases
from i18n.reader import say

MAX_SAMPLE_CHARS = 100
"""Characters of a quoted text, before escaping."""
MAX_EMBED_CHARS = 6000
"""Discord's limit for an embed."""
LEFT_OUT_LABEL = phrase("Left out")
NO_SAMPLE = phrase("No sample: the texts I looked at contain private data.")
EMPTY_TEXT_LABEL = phrase("*nothing*")
WHITESPACE_MARKS = {ord("\n"): "⏎", ord("\t"): "→", ord("\u3000"): "␣", ord("\xa0"): "␣"}
INVISIBLE_CHARS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)


def cleaning_embed(selection: Selection) -> discord.Embed:
    """The rules with count and sample, and the reasons for leaving examples out. Samples are
    dropped where the embed would exceed Discord's limit, counts never are."""
    embed = discord.Embed(
        title=say("What cleaning does"), colour=BLURPLE, description=_summary(selection)
    )
    if left_out := _counts(selection.dropped):
        embed.add_field(name=say(LEFT_OUT_LABEL), value=left_out, inline=False)
    for rule, count in selection.rule_counts.items():
        shown = _shown(selection.samples.get(rule))
        embed.add_field(name=f"{_capitalised(say(rule))}: {count:,}", value=shown, inline=False)
    _drop_samples_to_fit(embed)
    return embed


def _summary(selection: Selection) -> str:
    dropped = sum(selection.dropped.values())
    kept = len(selection.kept)
    summary = phrases(
        "I learn {kept:,} of {count} example.",
        "I learn {kept:,} of {count} examples.",
        kept + dropped,
        kept=kept,
    )
    if not selection.rule_counts:
        summary = join_phrases([summary, phrase("None of them had to be changed.")])
    return say(summary)


def _capitalised(rule: str) -> str:
    return rule[:1].upper() + rule[1:]


def _counts(counts: Mapping[str, int]) -> str:
    """One line per reason, the most frequent first."""
    most_first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return "\n".join(f"{count:,}: {say(reason)}" for reason, count in most_first)[:MAX_VALUE_CHARS]


def _shown(sample: tuple[str, str] | None) -> str:
    if sample is None:
        return say(NO_SAMPLE)
    before, after = (
        quote_safely(_mark_whitespace(text), MAX_SAMPLE_CHARS) or EMPTY_TEXT_LABEL
        for text in sample
    )
    return say("before: {before}\nafter: {after}", before=before, after=after)


def _mark_whitespace(text: str) -> str:
    """The text with visible marks for invisible white space."""
    text = re.sub(r" (?= )|(?<= ) |^ | $", "␣", text.translate(WHITESPACE_MARKS))
    return INVISIBLE_CHARS.sub("◌", text)


def _drop_samples_to_fit(embed: discord.Embed) -> None:
    """Remove samples, the last first, until the embed fits."""
    for place in reversed(range(len(embed.fields))):
        if len(embed) <= MAX_EMBED_CHARS:
            return
        field = embed.fields[place]
        if field.name != say(LEFT_OUT_LABEL):
            embed.set_field_at(place, name=field.name, value="–", inline=False)

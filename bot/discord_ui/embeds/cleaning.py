"""What cleaning did to a data set, as an embed: each rule before and after, and what is left out.

Pure: takes what `data.dataset.cleaning.select` gives. What people wrote is quoted harmless.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import discord

from bot.discord_ui.embeds.evaluation import quoted
from bot.discord_ui.embeds.style import BLURPLE, LONGEST_VALUE
from data.dataset.cleaning import Selection
from i18n.phrase import phrase, phrases, together
from i18n.reader import say

LONGEST = 100
"""Characters of a quoted text; escaped they may be more."""
MOST = 6000
"""Characters that Discord takes in an embed."""
REASONS = phrase("Left out")
NO_SAMPLE = phrase("No sample: what I looked at holds private data.")
NOTHING = phrase("*nothing*")
VISIBLE = {ord("\n"): "⏎", ord("\t"): "→", ord("\u3000"): "␣", ord("\xa0"): "␣"}
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def cleaned_embed(selection: Selection) -> discord.Embed:
    """Each rule with its count and a sample, then the reasons with theirs. Fits Discord's limits:
    samples are left out where there is no room, counts never are."""
    embed = discord.Embed(
        title=say("What cleaning does"), colour=BLURPLE, description=_summary(selection)
    )
    if left_out := _counts(selection.dropped):
        embed.add_field(name=say(REASONS), value=left_out, inline=False)
    for rule, count in selection.changed.items():
        shown = _shown(selection.samples.get(rule))
        embed.add_field(name=f"{_capitalised(say(rule))}: {count:,}", value=shown, inline=False)
    _make_room(embed)
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
    if not selection.changed:
        summary = together([summary, phrase("None of them had to be changed.")])
    return say(summary)


def _capitalised(rule: str) -> str:
    return rule[:1].upper() + rule[1:]


def _counts(counts: Mapping[str, int]) -> str:
    """A line for each reason, the most first."""
    most_first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return "\n".join(f"{count:,}: {say(reason)}" for reason, count in most_first)[:LONGEST_VALUE]


def _shown(sample: tuple[str, str] | None) -> str:
    if sample is None:
        return say(NO_SAMPLE)
    before, after = (quoted(_visible(text), LONGEST) or NOTHING for text in sample)
    return say("before: {before}\nafter: {after}", before=before, after=after)


def _visible(text: str) -> str:
    """With signs for white space that would not be seen."""
    text = re.sub(r" (?= )|(?<= ) |^ | $", "␣", text.translate(VISIBLE))
    return UNSEEN.sub("◌", text)


def _make_room(embed: discord.Embed) -> None:
    """Take samples away, the last first, until Discord takes the embed."""
    for place in reversed(range(len(embed.fields))):
        if len(embed) <= MOST:
            return
        field = embed.fields[place]
        if field.name != say(REASONS):
            embed.set_field_at(place, name=field.name, value="–", inline=False)

"""How the bot grew, as an embed and as the numbers of its picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import discord

from bot.discord_ui.embeds.style import BLURPLE, fact_lines
from bot.learning.growth import Checkpoint, Total
from i18n.phrase import phrase
from i18n.reader import say

MAX_CHECKPOINTS_DRAWN = 12
NOTHING_YET = phrase("Nothing was taught yet: begin with `/teach`.")


def growth_embed(
    totals: Sequence[Total], checkpoints: Sequence[Checkpoint], serving: str
) -> discord.Embed:
    """The numbers of today; `checkpoints` with the newest first."""
    facts = [
        (say("Examples"), f"{totals[-1][1] if totals else 0:,}"),
        (say("Checkpoints"), f"{len(checkpoints):,}"),
        (say("Answers now"), discord.utils.escape_markdown(serving)),
    ]
    text = "\n".join([*([] if totals else [say(NOTHING_YET)]), fact_lines(facts)])
    return discord.Embed(title=say("How I grow"), colour=BLURPLE, description=text)


def growth_numbers(
    totals: Sequence[Total], checkpoints: Sequence[Checkpoint]
) -> Mapping[str, object]:
    """The input of `training.plots.growth`, oldest first."""
    measured = [one for one in checkpoints if one.loss("own", "new") is not None]
    return {
        "days": [day.isoformat() for day, _ in totals],
        "totals": [total for _, total in totals],
        "checkpoints": [
            {
                "name": one.name,
                "day": one.manifest.created_at[:10],
                "base": one.loss("own", "base"),
                "new": one.loss("own", "new"),
                "passed": one.refusal is None,
            }
            for one in measured[:MAX_CHECKPOINTS_DRAWN][::-1]
        ],
    }

"""Duels and canaries in words: how they stand, and how they ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import discord

from bot.discord_ui.embeds.style import BLURPLE, add_fields
from bot.judgement.duel import Standing, time_left
from bot.judgement.sequential import MAX_VOTES_OF_MEMBER
from core.records import Canary, CanaryOutcome, Duel, DuelOutcome, ReplyCounts
from i18n.phrase import Phrase, phrase
from i18n.reader import say

END_TEXTS: Mapping[DuelOutcome, Phrase] = {
    DuelOutcome.A: phrase("**{winner}** gives the better answers. Nothing was changed by it."),
    DuelOutcome.B: phrase("**{winner}** gives the better answers. Nothing was changed by it."),
    DuelOutcome.ALIKE: phrase(
        "There is no difference that matters: neither is preferred in 65 of 100 votes."
    ),
    DuelOutcome.UNDECIDED: phrase(
        "All these votes could not tell: if one of them is better, then by little."
    ),
    DuelOutcome.EXPIRED: phrase("Its time is over, and too few people voted to tell."),
    DuelOutcome.STOPPED: phrase("It was stopped, so it says nothing about which one is better."),
    DuelOutcome.GONE: phrase("One of its models was deleted, so it ended without a result."),
}


def duel_embed(standing: Standing) -> discord.Embed:
    """A duel with its votes: who runs, and since the end who won."""
    duel = standing.duel
    title = say("Duel: {a} and {b}", a=duel.model_a, b=duel.model_b)
    embed = discord.Embed(title=title[:256], description=result_text(duel), colour=BLURPLE)
    add_fields(embed, _fields(standing))
    embed.set_footer(
        text=say(
            "Of one member {most} votes count, so that nobody decides alone. Votes may be looked "
            "at whenever you like: that makes no result less sure.",
            most=MAX_VOTES_OF_MEMBER,
        )
    )
    return embed


def duels_line(duels: Sequence[Duel], model: str) -> str:
    """What a model's duels found: `better than tiny-1, as good as tiny`."""
    return ", ".join(_finding(duel, model) for duel in duels)


def _finding(duel: Duel, model: str) -> str:
    other = duel.model_b if model == duel.model_a else duel.model_a
    if duel.winner is None:
        return say("as good as {other}", other=other)
    if duel.winner == model:
        return say("better than {other}", other=other)
    return say("worse than {other}", other=other)


def result_text(duel: Duel) -> str:
    """How it ended, or that it is running."""
    if duel.outcome is None:
        return say("It is running: some of the next replies come with two answers to vote on.")
    return say(phrase(END_TEXTS[duel.outcome], winner=duel.winner or ""))


def votes_text(standing: Standing) -> str:
    """The votes that count."""
    return say(
        "{a_name} {a} · {b_name} {b} · alike {alike}",
        a_name=standing.duel.model_a,
        a=standing.a,
        b_name=standing.duel.model_b,
        b=standing.b,
        alike=standing.alike,
    )


def _fields(standing: Standing) -> list[tuple[str, str]]:
    duel, votes = standing.duel, votes_text(standing)
    if standing.uncounted:
        votes += "\n" + say("{count} more do not count", count=standing.uncounted)
    where = ", ".join(f"<#{one}>" for one in sorted(duel.channels)) or say("all channels")
    share = say("{share} % of the replies, {where}", share=duel.share, where=where)
    fields = [
        (say("Answers chosen"), votes),
        (say("Members who voted"), str(standing.members)),
        (say("Two answers"), share),
    ]
    if duel.outcome is None:
        days = max(0, time_left(duel).days)
        fields.append((say("Ends at the latest"), say("in {days} days", days=days)))
    return fields


CANARY_TEXTS: Mapping[CanaryOutcome, Phrase] = {
    CanaryOutcome.WORSE: phrase(
        "**{model}** is taken back, and **{old_model}** answers everywhere again: of its {replies} "
        "replies {bad} were withheld, failed, stopped or disliked. Before, that was so with "
        "{base_bad} of {base_replies}: that is more than chance explains. `/model use {model}` "
        "tries it anyway."
    ),
    CanaryOutcome.PROMOTED: phrase(
        "**{model}** was on trial and answers everywhere now: of its {replies} replies {bad} were "
        "withheld, failed, stopped or disliked, before {base_bad} of {base_replies}."
    ),
    CanaryOutcome.GONE: phrase(
        "**{model}** was on trial and was deleted: **{old_model}** answers everywhere again."
    ),
    CanaryOutcome.FAILED: phrase(
        "**{model}** was on trial and cannot answer: it does not load, or I crashed with it. "
        "**{old_model}** answers everywhere again. The operator can read more in the log."
    ),
}
"""Nobody is told of one that was replaced: somebody has just chosen another model."""


def canary_text(outcome: CanaryOutcome, canary: Canary, counts: ReplyCounts) -> Phrase:
    """How a canary ended, and why."""
    return phrase(
        CANARY_TEXTS[outcome],
        model=canary.model,
        old_model=canary.old_model,
        bad=counts.bad,
        replies=counts.replies,
        base_bad=canary.base_bad,
        base_replies=canary.base_replies,
    )

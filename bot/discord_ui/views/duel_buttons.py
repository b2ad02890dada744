"""The buttons of a duel: which of two answers is better, and "Use it" under the result.

They work after a restart: a vote is on the message with the button, and the id of "Use it" contains
the duel's. Does not know which model wrote which answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import discord

from bot.discord_ui.client import dispatch_to_cog
from bot.discord_ui.delivery.reply import StreamingReply
from i18n.phrase import phrase
from i18n.reader import say

UPPER_BY_CHOICE = {"first": True, "second": False, "alike": None}
"""The choices, as their buttons' ids have them, and whether the upper answer is the better one."""
BUTTON_LABELS = {"first": phrase("A"), "second": phrase("B"), "alike": phrase("Both alike")}


class DuelVoteButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"duel:vote:(?P<choice>first|second|alike)",
):
    """A vote on the two answers of the message."""

    def __init__(self, choice: str) -> None:
        self.choice = choice
        super().__init__(
            discord.ui.Button(
                label=say(BUTTON_LABELS[choice]),
                style=discord.ButtonStyle.secondary,
                custom_id=f"duel:vote:{choice}",
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(match["choice"])

    async def callback(self, interaction: discord.Interaction) -> None:
        upper = UPPER_BY_CHOICE[self.choice]
        await dispatch_to_cog(interaction, "DuelCommands", "vote", upper)


class DuelUseButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"duel:use:(?P<duel>\d+)",
):
    """Puts the winner of a duel into service."""

    def __init__(self, duel_id: int) -> None:
        self.duel_id = duel_id
        super().__init__(
            discord.ui.Button(
                label=say("Use it"),
                style=discord.ButtonStyle.primary,
                custom_id=f"duel:use:{duel_id}",
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(int(match["duel"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, "DuelCommands", "use", self.duel_id)


def pair_view(_before: Sequence[int] = ()) -> discord.ui.View:
    """The buttons under two answers."""
    view = discord.ui.View(timeout=None)
    for choice in UPPER_BY_CHOICE:
        view.add_item(DuelVoteButton(choice))
    return view


def winner_view(duel_id: int) -> discord.ui.View:
    """The button under the result of a duel."""
    return discord.ui.View(timeout=None).add_item(DuelUseButton(duel_id))


async def show_pair(reply: StreamingReply, upper: str, lower: str) -> int | None:
    """Show two answers to choose from in place of a reply; the id of the message, None if they do
    not fit into one."""
    asking = say("-# Which answer is better? After a vote only that one stays.")
    text = f"**A**\n{upper}\n\n**B**\n{lower}\n{asking}"
    return await reply.finish_in_one_message(text, pair_view)

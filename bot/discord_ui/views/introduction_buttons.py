"""The buttons under the bot's introduction in a new server.

They work after a restart, and do what a command does: each calls a method of the command's cog.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import discord

from bot.discord_ui.client import dispatch_to_cog
from i18n.phrase import phrase
from i18n.reader import say


class Offer(StrEnum):
    """What a button offers; the value is a part of its id."""

    ANSWER = "answer"
    TEACH = "teach"
    PRIVACY = "privacy"


OFFER_LABELS = {
    Offer.ANSWER: phrase("Answer in this channel"),
    Offer.TEACH: phrase("Teach me something"),
    Offer.PRIVACY: phrase("Privacy"),
}
OFFER_METHODS = {
    Offer.ANSWER: ("Chat", "enable_here"),
    Offer.TEACH: ("Training", "open_form"),
    Offer.PRIVACY: ("Privacy", "show_summary"),
}
"""The cog and the method that a button calls."""


class IntroductionButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"introduction:(?P<offer>answer|teach|privacy)",
):
    """A button under the introduction."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        super().__init__(
            discord.ui.Button(
                label=say(OFFER_LABELS[offer]),
                style=discord.ButtonStyle.secondary,
                custom_id=f"introduction:{offer}",
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(Offer(match["offer"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, *OFFER_METHODS[self.offer])


def introduction_view(offers: Iterable[Offer] = Offer) -> discord.ui.View:
    """The buttons. They must work after a restart, so the view has no timeout."""
    view = discord.ui.View(timeout=None)
    for offer in offers:
        view.add_item(IntroductionButton(offer))
    return view

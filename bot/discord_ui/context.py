"""The message under which a button was pressed, and who pressed it. Knows Discord."""

from __future__ import annotations

from typing import Any

import discord

from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.permissions import Rank, rank_of
from core.errors import Refusal
from i18n.phrase import phrase

NOT_YOURS = phrase("Only whoever asked can do that, or somebody with the permission Manage Server.")

BotInteraction = discord.Interaction[Gpt2Bot]


class PressedMessage:
    """The message with the button. It is changed by the right that the press gives, so this works
    even where the bot may not read the channel."""

    def __init__(self, press: BotInteraction) -> None:
        self._press = press

    @property
    def id(self) -> int:
        return pressed_message(self._press).id

    async def edit(self, **changes: Any) -> object:
        return await self._press.edit_original_response(**changes)

    async def delete(self) -> None:
        await self._press.delete_original_response()


def pressed_message(press: BotInteraction) -> discord.Message:
    """The message with the button."""
    if press.message is None:
        raise RuntimeError("Discord sent a press without its message")
    return press.message


def scope_of_interaction(interaction: BotInteraction) -> int:
    """The guild's id; in a direct message the user's."""
    return interaction.guild_id or interaction.user.id


def require_asker_or_manager(interaction: BotInteraction, asked_by: int) -> None:
    """Let in who asked, and managers.

    Raises:
        Refusal: it is somebody else.
    """
    if interaction.user.id != asked_by and rank_of(interaction) < Rank.MANAGER:
        raise Refusal(NOT_YOURS)

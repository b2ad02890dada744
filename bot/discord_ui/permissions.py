"""Who may do what: members, managers and administrators of a server, operators of the bot.

Knows Discord's permissions and the operators. Discord hides commands from those who may not use
them, but a server can change that: so each command, button and form asks here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from discord import app_commands

from bot.discord_ui.client import BotInteraction
from core.errors import Refusal
from i18n.phrase import phrase

T = TypeVar("T")


class Rank(IntEnum):
    """What somebody is, where they ask; each may do what those before it may.

    A manager has the permission Manage Server, an administrator Administrator. Operators are the
    owner of the application, or its team, and who is named in OPERATOR_IDS; they are so everywhere.
    """

    MEMBER = 0
    MANAGER = 1
    ADMINISTRATOR = 2
    OPERATOR = 3


RANK_PERMISSIONS = {Rank.MANAGER: "manage_guild", Rank.ADMINISTRATOR: "administrator"}
NOT_YOURS = phrase("Only whoever asked can do that, or somebody with the permission Manage Server.")
ONLY_OPERATORS = phrase(
    "Only an operator of this bot may do that: its owner, or who OPERATOR_IDS names."
)


def rank_of(interaction: BotInteraction) -> Rank:
    """What the caller is here; in a direct message there is nothing to manage."""
    if interaction.user.id in interaction.client.operators:
        return Rank.OPERATOR
    if interaction.guild_id is None:
        return Rank.MEMBER
    if interaction.permissions.administrator:
        return Rank.ADMINISTRATOR
    return Rank.MANAGER if interaction.permissions.manage_guild else Rank.MEMBER


def require_rank(interaction: BotInteraction, needed: Rank) -> None:
    """Let in who has that rank, or a higher one.

    Raises:
        MissingPermissions, Refusal: it is somebody else.
    """
    if rank_of(interaction) >= needed:
        return
    if needed is Rank.OPERATOR:
        raise Refusal(ONLY_OPERATORS)
    raise app_commands.MissingPermissions([RANK_PERMISSIONS[needed]])


def require_asker_or_manager(interaction: BotInteraction, asked_by: int) -> None:
    """Let in who asked, and managers.

    Raises:
        Refusal: it is somebody else.
    """
    if interaction.user.id != asked_by and rank_of(interaction) < Rank.MANAGER:
        raise Refusal(NOT_YOURS)


async def defer_for_administrator(interaction: BotInteraction) -> None:
    """Let an administrator in, and promise an answer that only they see.

    Raises:
        MissingPermissions: it is somebody else.
    """
    require_rank(interaction, Rank.ADMINISTRATOR)
    await interaction.response.defer(ephemeral=True, thinking=True)


@dataclass(frozen=True, slots=True)
class RankCheck:
    """A check of a command: who has that rank, or a higher one."""

    needed: Rank

    def __call__(self, interaction: BotInteraction) -> bool:
        require_rank(interaction, self.needed)
        return True


def requires_rank(needed: Rank) -> Callable[[T], T]:
    """`RankCheck` as a decorator, placed under that of the command."""
    return app_commands.check(RankCheck(needed))

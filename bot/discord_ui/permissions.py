"""Ranks and their checks: members, managers and administrators of a server, operators of the bot.

Discord hides commands from those who may not use them, but servers can change that, so each
command, button and form checks the rank again. The rank that each needs stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar

from discord import Member, Permissions, app_commands

from bot.discord_ui.client import BotInteraction
from bot.discord_ui.delivery.requests import defer
from core.errors import Refusal
from core.server_settings import Retrainers, Teaching
from i18n.phrase import phrase

Command: TypeAlias = "app_commands.Command[Any, ..., Any]"
T = TypeVar("T")


class NotARetrainer(app_commands.CheckFailure, Refusal):
    """The caller may not retrain here; as a CheckFailure, a command's check may raise it."""


class Rank(IntEnum):
    """The caller's rank in a server; each includes those before it.

    A manager has the permission Manage Server, an administrator has Administrator. Operators are
    the owner or the team of the application and those listed in OPERATOR_IDS, in every server.
    """

    MEMBER = 0
    MANAGER = 1
    ADMINISTRATOR = 2
    OPERATOR = 3


RANK_PERMISSIONS = {Rank.MANAGER: "manage_guild", Rank.ADMINISTRATOR: "administrator"}
NOT_YOURS = phrase(
    "Only the person who asked, or somebody with the permission Manage Server, can do that."
)
ONLY_MANAGERS_TEACH = phrase(
    "In this server only managers teach me: tell somebody with the permission Manage Server what I "
    "should say."
)
ONLY_A_ROLE_RETRAINS = phrase(
    "In this server only administrators and the members of a certain role may retrain me; a "
    "manager sees in `/settings open` which one it is."
)
ONLY_OPERATORS = phrase(
    "Only an operator of this bot may do that: its owner, or anybody listed in OPERATOR_IDS."
)


def rank_of(interaction: BotInteraction) -> Rank:
    """The caller's rank here; in a direct message there is nothing to manage."""
    if interaction.user.id in interaction.client.operators:
        return Rank.OPERATOR
    if interaction.guild_id is None:
        return Rank.MEMBER
    return rank_with(interaction.permissions)


def rank_with(permissions: Permissions) -> Rank:
    """The rank of a member who has these permissions in a server."""
    if permissions.administrator:
        return Rank.ADMINISTRATOR
    return Rank.MANAGER if permissions.manage_guild else Rank.MEMBER


def require_rank(interaction: BotInteraction, needed: Rank) -> None:
    """Refuse callers below that rank.

    Raises:
        MissingPermissions, Refusal: the caller's rank is lower.
    """
    if rank_of(interaction) >= needed:
        return
    if needed is Rank.OPERATOR:
        raise Refusal(ONLY_OPERATORS)
    raise app_commands.MissingPermissions([RANK_PERMISSIONS[needed]])


def require_asker_or_manager(interaction: BotInteraction, asked_by: int) -> None:
    """Refuse everybody except the asker and managers.

    Raises:
        Refusal: the caller is neither.
    """
    if interaction.user.id != asked_by and rank_of(interaction) < Rank.MANAGER:
        raise Refusal(NOT_YOURS)


def require_teacher(interaction: BotInteraction, teaching: Teaching) -> None:
    """Refuse members where only managers teach.

    Raises:
        Refusal: the caller is one.
    """
    if teaching is Teaching.MANAGERS and rank_of(interaction) < Rank.MANAGER:
        raise Refusal(ONLY_MANAGERS_TEACH)


def may_retrain(interaction: BotInteraction) -> bool:
    """Whether the caller may retrain here: an administrator, or whom the server has chosen."""
    rank, guild_id = rank_of(interaction), interaction.guild_id
    if rank >= Rank.ADMINISTRATOR or guild_id is None:
        return rank >= Rank.ADMINISTRATOR
    match interaction.client.retrainers(guild_id):
        case int() as role_id:
            member = interaction.user
            return isinstance(member, Member) and member.get_role(role_id) is not None
        case Retrainers.MANAGERS:
            return rank >= Rank.MANAGER
        case _:
            return False


def require_retrainer(interaction: BotInteraction) -> None:
    """Refuse callers who may not retrain here.

    Raises:
        MissingPermissions, NotARetrainer: they may not.
    """
    if may_retrain(interaction):
        return
    wanted = interaction.client.retrainers(interaction.guild_id or 0)
    if isinstance(wanted, int):
        raise NotARetrainer(ONLY_A_ROLE_RETRAINS)
    require_rank(interaction, Rank.MANAGER if wanted is Retrainers.MANAGERS else Rank.ADMINISTRATOR)


async def defer_for_retrainer(interaction: BotInteraction) -> None:
    """Defer an answer that only the caller sees, who must be allowed to retrain.

    Raises:
        MissingPermissions, NotARetrainer: they are not.
    """
    require_retrainer(interaction)
    await defer(interaction, ephemeral=True, thinking=True)


@dataclass(frozen=True, slots=True)
class RankCheck:
    """A command check: the caller must have at least that rank."""

    needed: Rank

    def __call__(self, interaction: BotInteraction) -> bool:
        require_rank(interaction, self.needed)
        return True


class RetrainerCheck(RankCheck):
    """A command check: the caller must be allowed to retrain. Where a server chose nobody else,
    that is an administrator."""

    __slots__ = ()

    def __call__(self, interaction: BotInteraction) -> bool:
        require_retrainer(interaction)
        return True


requires_retrainer = app_commands.check(RetrainerCheck(Rank.ADMINISTRATOR))
"""The same as a decorator."""


def requires_rank(needed: Rank) -> Callable[[T], T]:
    """`RankCheck` as a decorator, placed under that of the command."""
    return app_commands.check(RankCheck(needed))


def root_of(command: Command) -> Command | app_commands.Group:
    """What Discord shows or hides: the command, or the group that it is in."""
    return command.root_parent or command


def needed_rank(command: Command) -> Rank:
    """Who may use it: by what the bot asks, and by what Discord hides."""
    asked = [one.needed for one in command.checks if isinstance(one, RankCheck)]
    hidden = root_of(command).default_permissions or Permissions.none()
    return max(
        [
            Rank.MEMBER,
            *asked,
            *(one for one, name in RANK_PERMISSIONS.items() if getattr(hidden, name)),
        ]
    )

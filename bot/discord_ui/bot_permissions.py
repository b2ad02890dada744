"""The permissions that the bot needs in a server, and which of them it lacks there.

Embed Links is not among them: answers to commands and buttons may have embeds without it.
"""

from __future__ import annotations

import logging

import discord

from i18n.phrase import phrase

log = logging.getLogger(__name__)

REQUIRED_PERMISSIONS = {
    phrase("View Channels"): discord.Permissions(view_channel=True),
    phrase("Send Messages"): discord.Permissions(send_messages=True),
    phrase("Send Messages in Threads"): discord.Permissions(send_messages_in_threads=True),
    phrase("Read Message History"): discord.Permissions(read_message_history=True),
    phrase("Attach Files"): discord.Permissions(attach_files=True),
}
"""By their names in Discord's settings."""
INVITE_PERMISSIONS = discord.Permissions(sum(one.value for one in REQUIRED_PERMISSIONS.values()))


def missing_permissions(granted: discord.Permissions) -> list[str]:
    """The names of the required permissions that are not granted."""
    if granted.administrator:
        return []
    return [
        name for name, needed in REQUIRED_PERMISSIONS.items() if not granted.is_superset(needed)
    ]


def log_missing_permissions(guild: discord.Guild) -> None:
    """Warn of the permissions that the bot lacks in a server."""
    if names := missing_permissions(guild.me.guild_permissions):
        log.warning("%s (%d): I lack %s there", guild.name, guild.id, ", ".join(names))


def invite_url(application_id: int | str) -> str:
    """The link with which an admin invites the bot, or grants it missing permissions."""
    scopes = ("bot", "applications.commands")
    return discord.utils.oauth_url(
        int(application_id), permissions=INVITE_PERMISSIONS, scopes=scopes
    )

"""What it means when Discord does not do what it is asked to.

Knows its status and error codes (discord.com/developers/docs/topics/opcodes-and-status-codes). Does
not know what was asked for.
"""

from __future__ import annotations

import aiohttp
import discord

DISCORD_ERRORS = (discord.HTTPException, discord.RateLimited, aiohttp.ClientError, TimeoutError)
"""Everything that a request to Discord raises when Discord or the way to it is at fault."""

UNKNOWN_INTERACTION, ALREADY_ACKNOWLEDGED = 10062, 40060


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: Discord is down, overloaded or out of reach."""
    if isinstance(error, discord.HTTPException):
        return error.status == 429 or error.status >= 500
    return isinstance(error, DISCORD_ERRORS)


def is_interaction_expired(error: Exception) -> bool:
    """Whether an interaction can be answered no more, or was answered already."""
    return isinstance(error, discord.HTTPException) and error.code in (
        UNKNOWN_INTERACTION,
        ALREADY_ACKNOWLEDGED,
    )

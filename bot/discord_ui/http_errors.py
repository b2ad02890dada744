"""The errors of requests to Discord, and what their codes mean.

The codes: discord.com/developers/docs/topics/opcodes-and-status-codes.
"""

from __future__ import annotations

import aiohttp
import discord

DISCORD_ERRORS = (discord.HTTPException, discord.RateLimited, aiohttp.ClientError, TimeoutError)
"""Everything that a request to Discord raises when Discord or the way to it is at fault."""

UNKNOWN_INTERACTION, ALREADY_ACKNOWLEDGED = 10062, 40060


def is_interaction_expired(error: Exception) -> bool:
    """Whether an interaction can no longer be answered, or was answered already."""
    return isinstance(error, discord.HTTPException) and error.code in (
        UNKNOWN_INTERACTION,
        ALREADY_ACKNOWLEDGED,
    )

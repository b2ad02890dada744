"""Requests to Discord: their errors, and sending a message again without doubling it.

discord.py already repeats a request by itself, for some seconds; what is here covers a longer
outage. If Discord posted a message but its answer was lost, asking again would post it twice. With
the same nonce, Discord returns the message that is there already (`enforce_nonce`,
discord.com/developers/docs/resources/message#create-message). Webhooks, through which further parts
of an answer to an interaction go, have no nonce.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from json import JSONDecodeError
from secrets import token_hex
from typing import Any, TypeVar

import aiohttp
import discord

log = logging.getLogger(__name__)
T = TypeVar("T")

DISCORD_ERRORS = (
    discord.HTTPException,
    discord.RateLimited,
    aiohttp.ClientError,
    JSONDecodeError,
    TimeoutError,
)
"""Everything that a request to Discord raises when Discord or the way to it is at fault."""

# discord.com/developers/docs/topics/opcodes-and-status-codes
UNKNOWN_INTERACTION, ALREADY_ACKNOWLEDGED, INVALID_WEBHOOK_TOKEN = 10062, 40060, 50027
NO_REPLY_WITHOUT_HISTORY = 160002
"""Without the permission to read the message history, a message cannot refer to another."""

new_nonce = partial(token_hex, 12)
"""Makes a nonce of 24 characters; Discord takes up to 25."""
RETRY_DELAYS_S = (2.0, 8.0, 30.0, 60.0)
"""Seconds before each further try; the retries of discord.py come on top."""


def is_interaction_expired(error: Exception) -> bool:
    """Whether an interaction can no longer be answered, or was answered already."""
    return isinstance(error, discord.HTTPException) and error.code in (
        UNKNOWN_INTERACTION,
        ALREADY_ACKNOWLEDGED,
        INVALID_WEBHOOK_TOKEN,
    )


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: Discord is down, overloaded or unreachable."""
    if isinstance(error, discord.HTTPException):
        return error.status == 429 or error.status >= 500
    return isinstance(error, DISCORD_ERRORS)


async def with_retries(request: Callable[[], Awaitable[T]]) -> T:
    """Make a request; see `retry_transient`."""
    try:
        return await request()
    except DISCORD_ERRORS as e:
        return await retry_transient(e, request)


async def retry_transient(error: Exception, request: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request that failed with `error`, for up to two minutes while its errors are
    transient. Raises the last error, or the first that is not transient."""
    for delay_s in RETRY_DELAYS_S:
        if not is_transient(error):
            break
        log.info("Discord did not accept a message, retrying in %g s: %s", delay_s, error)
        await asyncio.sleep(delay_s)
        try:
            return await request()
        except DISCORD_ERRORS as e:
            error = e
    raise error


async def defer(
    interaction: discord.Interaction[Any], *, ephemeral: bool = False, thinking: bool = False
) -> None:
    """Tell Discord, within its three seconds, that the answer to an interaction follows.

    If the answer to this request was lost, discord.py repeats it, and Discord says that it has been
    acknowledged already; an interaction that is delivered twice never comes this far.
    """
    try:
        await interaction.response.defer(ephemeral=ephemeral, thinking=thinking)
    except discord.HTTPException as e:
        if e.code != ALREADY_ACKNOWLEDGED:
            raise
        log.info("%s was acknowledged already", interaction.id)


async def post_with_retries(
    channel: discord.abc.Messageable, text: str, **options: Any
) -> discord.Message:
    """Post a message once, with the options of `discord.abc.Messageable.send` (but no files, which
    can be read only once); see `with_retries`."""
    nonce = new_nonce()
    return await with_retries(lambda: channel.send(text, nonce=nonce, **options))

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
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from json import JSONDecodeError
from typing import Any, Protocol, TypeVar

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
    """Make a request, and repeat it for up to two minutes while its errors are transient.

    Raises:
        discord.HTTPException, ...: the last error, or the first that is not transient.
    """
    for delay_s in RETRY_DELAYS_S:
        try:
            return await request()
        except DISCORD_ERRORS as e:
            if not is_transient(e):
                raise
            log.info("Discord did not accept a message, retrying in %g s: %s", delay_s, e)
        await asyncio.sleep(delay_s)
    return await request()


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


def new_nonce() -> str:
    """A nonce of 24 characters; Discord takes up to 25."""
    return secrets.token_hex(12)


class PostedMessage(Protocol):
    """A message of ours that can be edited and deleted."""

    @property
    def id(self) -> int: ...

    async def edit(self, *, content: str, view: discord.ui.View | None = ...) -> object:
        """Change its text and, if `view` is given, its buttons (None: remove them)."""

    async def delete(self) -> None:
        """Delete it."""


class Send(Protocol):
    """Posts a message, with buttons if `view` is given; at most once with the same `nonce`."""

    async def __call__(
        self, content: str, *, nonce: str, view: discord.ui.View = ...
    ) -> PostedMessage: ...


async def post_with_retries(
    channel: discord.abc.Messageable, text: str, **options: Any
) -> discord.Message:
    """Post a message once, with the options of `discord.abc.Messageable.send` (but no files, which
    can be read only once); see `with_retries`."""
    nonce = new_nonce()
    return await with_retries(lambda: channel.send(text, nonce=nonce, **options))


@dataclass(slots=True)
class SinglePost:
    """A message that is posted once, however often that is tried."""

    _nonce: str = field(default_factory=new_nonce)
    _first_text: str | None = None

    async def send(
        self, send: Send, text: str, view: discord.ui.View | None = None
    ) -> PostedMessage:
        """Try to post it; the text may differ from that of an earlier try."""
        self._first_text = self._first_text or text
        buttons: dict[str, Any] = {"view": view} if view else {}
        message = await send(text, nonce=self._nonce, **buttons)
        if (
            text != self._first_text
        ):  # perhaps the earlier try had posted its text, and only its answer was lost
            await message.edit(content=text, **buttons)
        return message

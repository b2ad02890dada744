"""The bot's application at Discord: what the setup knows of it, and the one switch that it may set.

A bot may edit its own application (discord.com/developers/docs/resources/application,
"Edit Current Application"). Of the privileged intents it may set the limited ones, which count
below 100 servers. Whether the bot is public it may not set.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import discord

from bot.cli.doctor.account import (
    PORTAL,
    LoginFailed,
    application_info,
    logged_in,
    may_read_messages,
)
from bot.cli.questions import confirm
from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from i18n.phrase import Phrase, join_phrases, message_of, phrase
from i18n.reader import say

LIMITED_SERVERS = 100
"""From so many servers on, Discord has to approve a privileged intent."""
EDIT_TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True)
class Application:
    """What Discord says of the application. `servers` is approximate."""

    id: int
    reads_messages: bool
    servers: int


def application_of(client: discord.Client) -> Application:
    """That of a client that is logged in."""
    info = application_info(client)
    return Application(info.id, may_read_messages(info.flags), info.approximate_guild_count)


def offer_message_content(
    token: str, application: Application, *, wanted: bool | None, interactive: bool
) -> None:
    """Let the bot read messages, if it may not and somebody wants that; say what became of it.

    Args:
        token: The bot's.
        application: As it was a minute ago.
        wanted: Whether to do it; None asks, if `interactive`, and else leaves it.
        interactive: Whether somebody can be asked.
    """
    if application.reads_messages or wanted is False or not (wanted or interactive):
        return
    if application.servers >= LIMITED_SERVERS:
        print(
            say(
                "Message Content Intent is off. The bot is in {count} servers: from {limit} on, "
                "Discord has to approve it, for which you apply on the Bot page ({portal}).",
                count=application.servers,
                limit=LIMITED_SERVERS,
                portal=PORTAL,
            )
        )
        return
    question = phrase(
        "Message Content Intent is off: the bot cannot read the messages of enabled channels. "
        "Switch it on at Discord?"
    )
    if wanted or confirm(question, default=True, optional=True):
        print(say(asyncio.run(_switch_on(token))))


async def _switch_on(token: str) -> Phrase:
    """Switch the intent on; what became of it, in a sentence or two."""
    by_hand = phrase(
        "Switch on Message Content Intent on the Bot page of your application ({portal}).",
        portal=PORTAL,
    )
    try:
        async with asyncio.timeout(EDIT_TIMEOUT_S), logged_in(token) as client:
            info = application_info(client)
            flags = info.flags
            flags.gateway_message_content_limited = True
            changed = await info.edit(flags=flags)
    except LoginFailed as e:
        why = message_of(e)
    except TimeoutError:
        why = phrase("Discord did not answer.")
    except discord.Forbidden as e:
        why = phrase("Discord does not let the bot do that ({error}).", error=e)
    except DISCORD_ERRORS as e:
        why = phrase("Discord did not take it ({error}).", error=e)
    else:
        if may_read_messages(changed.flags):
            return phrase("Message Content Intent is on.")
        why = phrase("Discord has answered, but it is still off.")
    return join_phrases([why, by_hand])

"""Checks of the bot's Discord account: its token, its intents, its permissions in each server.

They use Discord's HTTP API through discord.py; the bot does not go online.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import discord

from bot.discord_ui.bot_permissions import invite_url, missing_permissions
from bot.ops.checks.check import Finding, refer_to
from bot.settings import NO_TOKEN
from i18n.phrase import Phrase, join_phrases, message_of, phrase, phrases

TOKEN, INTENTS, PERMISSIONS = NAMES = (phrase("token"), phrase("intents"), phrase("permissions"))
GUILDS_PAGE_SIZE = 200
"""The most servers in a response of Discord."""
MAX_SERVERS_NAMED = 5
PORTAL = "https://discord.com/developers/applications"


class LoginFailed(Exception):
    """Discord did not let the bot in; `advice` says what to do."""

    def __init__(self, detail: Phrase, advice: Phrase) -> None:
        super().__init__(detail)
        self.advice = advice


class TokenRefused(LoginFailed):
    """Discord answered, and does not know the token."""


async def check_account(token: str | None) -> list[Finding]:
    """Log in, and check the account; if that fails, the intents and permissions are unknown."""
    if token is None or not token.strip():
        return _token_failed(phrase("There is none."), NO_TOKEN)
    try:
        async with logged_in(token) as client:
            info = application_info(client)
            permissions = await _permissions(client, info.id)
            return [token_finding(client), _intents(info.flags), permissions]
    except LoginFailed as e:
        return _token_failed(message_of(e), e.advice)


@asynccontextmanager
async def logged_in(token: str) -> AsyncIterator[discord.Client]:
    """A client that Discord has told whose the token is.

    Raises:
        LoginFailed: it has not; `TokenRefused` if that is because of the token.
    """
    async with discord.Client(intents=discord.Intents.none()) as client:
        try:
            await client.login(token)
        except discord.LoginFailure as e:
            raise TokenRefused(
                phrase("Discord does not accept DISCORD_TOKEN."),
                phrase(
                    "Copy it again from the Bot page of your application ({portal}) into .env.",
                    portal=PORTAL,
                ),
            ) from e
        except discord.HTTPException as e:
            raise LoginFailed(
                phrase(
                    "Discord answers with the status {status} instead of checking the token.",
                    status=e.status,
                ),
                phrase("Look at https://discordstatus.com, then try again later."),
            ) from e
        except (OSError, aiohttp.ClientError) as e:
            raise LoginFailed(
                phrase("Discord cannot be reached ({error}).", error=e),
                phrase(
                    "Check this machine's connection, name resolution and firewall: it has to "
                    "reach discord.com on port 443."
                ),
            ) from e
        yield client


def token_finding(client: discord.Client) -> Finding:
    """Whose the token is."""
    return Finding(TOKEN, phrase("It belongs to {bot}.", bot=client.user))


def application_info(client: discord.Client) -> discord.AppInfo:
    """The application that a logged-in client is the bot of."""
    assert client.application is not None  # login fetches it
    return client.application


def _token_failed(detail: str, advice: str) -> list[Finding]:
    unknown = phrase("It could not be checked.")
    others = [Finding(name, unknown, refer_to(TOKEN)) for name in (INTENTS, PERMISSIONS)]
    return [Finding(TOKEN, detail, advice), *others]


def may_read_messages(flags: discord.ApplicationFlags) -> bool:
    """Whether Message Content is granted, for few servers or for many."""
    return flags.gateway_message_content or flags.gateway_message_content_limited


def _intents(flags: discord.ApplicationFlags) -> Finding:
    if may_read_messages(flags):
        return Finding(INTENTS, phrase("Message Content is granted."))
    return Finding(
        INTENTS,
        phrase("Message Content is off: the bot cannot read the messages of enabled channels."),
        phrase(
            "Run `gpt2bot setup`, which can switch it on, or do so on the Bot page of your "
            "application ({portal}).",
            portal=PORTAL,
        ),
    )


async def _permissions(client: discord.Client, application_id: int) -> Finding:
    missing, count = [], 0
    async for guild in _guilds(client):
        count += 1
        if names := missing_permissions(discord.Permissions(int(guild["permissions"]))):
            named = join_phrases(names, ", ")
            missing.append(
                phrase("{server}: {permissions}", server=guild["name"], permissions=named)
            )
    link = invite_url(application_id)
    if not count:
        invite = phrase("Invite it: {link}", link=link)
        return Finding(PERMISSIONS, phrase("The bot is in no server."), invite)
    if not missing:
        granted = phrases(
            "The bot has all permissions it needs in its server.",
            "The bot has all permissions it needs in its {count} servers.",
            count,
        )
        return Finding(PERMISSIONS, granted)
    where = join_phrases(missing[:MAX_SERVERS_NAMED], "; ")
    if (more := len(missing) - MAX_SERVERS_NAMED) > 0:
        where = phrase("{servers} … and in {count} more", servers=where, count=more)
    return Finding(
        PERMISSIONS,
        phrase("Missing permissions in {where}.", where=where),
        phrase(
            "Give its role these permissions in the server's settings, or invite it again: {link}",
            link=link,
        ),
    )


async def _guilds(client: discord.Client) -> AsyncIterator[dict[str, Any]]:
    """Every server, with `permissions`: what all its roles together grant the bot there."""
    after: int | None = None
    while page := await client.http.get_guilds(GUILDS_PAGE_SIZE, after=after, with_counts=False):
        for guild in page:
            yield dict(guild)
        if len(page) < GUILDS_PAGE_SIZE:
            return
        after = int(page[-1]["id"])

"""What Discord says of the bot's account: its token, its intents, its permissions in each server.

Asks Discord's HTTP interface, through discord.py; the bot is not started, and nobody sees it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import discord

from bot.discord_ui.bot_permissions import invite_url, missing_permissions
from bot.ops.checks.finding import Finding, refer_to_finding
from bot.settings import NO_TOKEN
from i18n.phrase import join_phrases, phrase, phrases

TOKEN, INTENTS, PERMISSIONS = NAMES = (
    phrase("token"),
    phrase("intents"),
    phrase("permissions"),
)
GUILDS_PAGE_SIZE = 200
"""Servers that Discord tells at a time, at most."""
MAX_SERVERS_NAMED = 5
"""Servers that are named."""
NOT_CHECKED = phrase("It could not be checked.")
PORTAL = "https://discord.com/developers/applications"


async def check_account(token: str | None) -> list[Finding]:
    """Log in and look."""
    if token is None or not token.strip():
        return _token_failed(phrase("There is none."), NO_TOKEN)
    async with discord.Client(intents=discord.Intents.none()) as client:
        try:
            await client.login(token)
        except discord.LoginFailure:
            return _token_failed(
                phrase("Discord does not accept DISCORD_TOKEN."),
                phrase(
                    "Copy it again from the Bot page of your application ({portal}) into .env.",
                    portal=PORTAL,
                ),
            )
        except discord.HTTPException as e:
            return _token_failed(
                phrase(
                    "Discord answers with the status {status} instead of checking the token.",
                    status=e.status,
                ),
                phrase("Look at https://discordstatus.com, then try again later."),
            )
        except (OSError, aiohttp.ClientError) as e:
            return _token_failed(
                phrase("Discord cannot be reached ({error}).", error=e),
                phrase(
                    "Check this machine's connection, name resolution and firewall: it has to "
                    "reach discord.com on port 443."
                ),
            )
        assert client.application is not None  # login asks for it
        flags = client.application.flags
        return [
            Finding(TOKEN, True, phrase("Discord knows it as that of {bot}.", bot=client.user)),
            _intents(flags.gateway_message_content or flags.gateway_message_content_limited),
            await _permissions(client, client.application.id),
        ]


def _token_failed(detail: str, advice: str) -> list[Finding]:
    others = [Finding(name, False, NOT_CHECKED, refer_to_finding(TOKEN)) for name in NAMES[1:]]
    return [Finding(TOKEN, False, detail, advice), *others]


def _intents(message_content: bool) -> Finding:
    if message_content:
        return Finding(INTENTS, True, phrase("Message Content is granted."))
    return Finding(
        INTENTS,
        False,
        phrase("Message Content is off: the bot cannot read the messages of enabled channels."),
        phrase(
            "Switch on Message Content Intent on the Bot page of your application ({portal}).",
            portal=PORTAL,
        ),
    )


async def _permissions(client: discord.Client, application_id: int) -> Finding:
    lacking, count = [], 0
    async for guild in _guilds(client):
        count += 1
        if names := missing_permissions(discord.Permissions(int(guild["permissions"]))):
            lacking.append(
                phrase(
                    "in {server}: {permissions}",
                    server=guild["name"],
                    permissions=join_phrases(names, ", "),
                )
            )
    link = invite_url(application_id)
    if not count:
        invite = phrase("Invite it: {link}", link=link)
        return Finding(PERMISSIONS, False, phrase("The bot is in no server."), invite)
    if not lacking:
        fine = phrases(
            "The bot has what it needs in its server.",
            "The bot has what it needs in all of its {count} servers.",
            count,
        )
        return Finding(PERMISSIONS, True, fine)
    where = join_phrases(lacking[:MAX_SERVERS_NAMED], "; ")
    if more := max(0, len(lacking) - MAX_SERVERS_NAMED):
        where = phrase("{servers} … and in {count} more", servers=where, count=more)
    return Finding(
        PERMISSIONS,
        False,
        phrase("The bot lacks, {where}.", where=where),
        phrase(
            "Give its role these permissions in the server's settings, or invite it anew: {link}",
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

"""The invitation: its link, the page in the browser, and waiting until the bot is in a server."""

from __future__ import annotations

import asyncio

from bot.cli.doctor.account import LoginFailed, logged_in
from bot.cli.questions import pressed_enter
from bot.cli.setup.application import Application
from bot.cli.setup.browser import offer_page
from bot.discord_ui.bot_permissions import REQUIRED_PERMISSIONS, invite_url
from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from i18n.phrase import Phrase, join_phrases, message_of, phrase
from i18n.reader import say

POLL_INTERVAL_S = 2.0
"""Seconds between two questions to Discord whether the bot is in a server."""
LONGEST_WAIT_S = 900.0
NOT_YET = phrase("It is in no server yet. The link stays valid.")


def invite(
    token: str, application: Application, *, browser: bool | None, interactive: bool
) -> None:
    """Print the link and what it asks for; where somebody is there, wait until they have used it.

    Args:
        token: The bot's.
        application: That which is invited.
        browser: Whether to open the link; None asks.
        interactive: Whether somebody is there.
    """
    link = invite_url(application.id)
    print(say("Invite the bot to your server with this link: {link}", link=link))
    permissions = join_phrases(REQUIRED_PERMISSIONS, ", ")
    print(say("It asks for these permissions: {permissions}.", permissions=permissions))
    if not interactive:
        return
    try:
        print(say(_wait_for_invitation(token, link, browser)))
        return
    except KeyboardInterrupt:  # like Enter: everything is written already
        print(f"\n{say(NOT_YET)}")
        return
    except LoginFailed as e:
        why = message_of(e)
    except DISCORD_ERRORS as e:
        why = phrase("Discord could not be asked ({error}).", error=e)
    print(say("{why} `gpt2bot doctor` tells later whether the bot is in a server.", why=why))


def _wait_for_invitation(token: str, link: str, browser: bool | None) -> Phrase:
    """Where the bot is, in a sentence."""
    if server := asyncio.run(_first_server(token, within_s=0)):
        return phrase("It is in {server} already.", server=server)
    offer_page(link, wanted=browser)
    print(
        say(
            "Choose your server on that page and press Authorize. I notice when the bot is there; "
            "Enter goes on without it."
        ),
        flush=True,
    )
    server = asyncio.run(_first_server(token, within_s=LONGEST_WAIT_S))
    return phrase("The bot is in {server}.", server=server) if server else NOT_YET


async def _first_server(token: str, *, within_s: float) -> str | None:
    """The name of a server in which the bot is; None if Enter was pressed or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    async with logged_in(token) as client:
        while not (servers := await client.http.get_guilds(1, with_counts=False)):
            if loop.time() >= end or await asyncio.to_thread(pressed_enter, POLL_INTERVAL_S):
                return None
        return servers[0]["name"]

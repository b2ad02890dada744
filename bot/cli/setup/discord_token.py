"""The question for the bot's token, and Discord's answer to it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from rich.console import Console

from bot.cli.doctor.account import (
    PORTAL,
    TOKEN,
    LoginFailed,
    TokenRefused,
    logged_in,
    token_finding,
)
from bot.cli.doctor.command import findings_table
from bot.cli.questions import ask_secret
from bot.cli.setup.application import Application, application_of
from bot.cli.setup.browser import offer_page
from bot.ops.checks.check import Finding
from bot.settings import SettingsError
from i18n.phrase import join_phrases, message_of, phrase
from i18n.reader import say

LOGIN_TIMEOUT_S = 40.0
AROUND_TOKEN = re.compile(
    r"""^\s*(?:DISCORD_TOKEN\s*=)?[\s"'`“”]*(?:Bot\s+)?|[\s"'`“”]+$""", re.IGNORECASE
)
"""What people copy along with a token."""
TOKEN_LETTERS = re.compile(r"[A-Za-z0-9._-]+")
NO_TOKEN_GIVEN = phrase(
    "There is no token yet: copy it from the Bot page of your application at {portal}, and paste "
    "it here, or give it in DISCORD_TOKEN or with --token-file FILE.",
    portal=PORTAL,
)


def ask_token(present: str, *, browser: bool | None) -> tuple[str, Application | None]:
    """A token that Discord accepts, or could not be asked about; and its application, if known.

    Args:
        present: The token that is set already, which Enter keeps; "" if none is.
        browser: Whether to open the portal, if there is no token; None asks.
    """
    if not present:
        print(
            say(
                "At {portal} press New Application and enter your bot's name. On its Bot page "
                "press Reset Token, and copy the token.",
                portal=PORTAL,
            )
        )
        offer_page(PORTAL, wanted=browser)
    kept = phrase("; Enter keeps the present one")
    question = phrase("Bot token (it is not shown{kept}):", kept=kept if present else "")
    while True:
        answer = ask_secret(question) or present
        try:
            return check_token(answer)
        except SettingsError as e:
            print(say(message_of(e)))


def read_token(file: Path) -> str:
    """What is in a file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as e:
        raise SettingsError(
            phrase("The file {file} cannot be read ({why}): give another one.", file=file, why=e)
        ) from e


def check_token(given: str) -> tuple[str, Application | None]:
    """The token without what was copied along; and its application, unless Discord could not be
    asked.

    Raises:
        SettingsError: there is none, or something else, or Discord does not know it.
    """
    token = _bare_token(given)
    console = Console(markup=False, highlight=False, emoji=False)
    try:
        with console.status(say("Checking…")):
            finding, application = asyncio.run(_ask_discord(token))
    except TokenRefused as e:
        raise SettingsError(
            phrase(
                "Discord does not accept this token: press Reset Token on the Bot page of your "
                "application ({portal}), and copy the new one.",
                portal=PORTAL,
            )
        ) from e
    console.print(findings_table([finding], console.width))
    return token, application


def _bare_token(given: str) -> str:
    """The token alone.

    Raises:
        SettingsError: there is none, or something else.
    """
    token = AROUND_TOKEN.sub("", given)
    if not token:
        raise SettingsError(NO_TOKEN_GIVEN)
    if not TOKEN_LETTERS.fullmatch(token):
        raise SettingsError(
            phrase(
                "This is no token, which has only letters, digits, dots, - and _: copy it alone, "
                "without quotation marks, spaces or the word Bot."
            )
        )
    return token


async def _ask_discord(token: str) -> tuple[Finding, Application | None]:
    """Whose the token is; or why that could not be asked.

    Raises:
        TokenRefused: Discord does not know it.
    """
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT_S), logged_in(token) as client:
            return token_finding(client), application_of(client)
    except TokenRefused:
        raise
    except LoginFailed as e:
        goes_on = phrase("The token is written without a check.")
        return Finding(TOKEN, join_phrases([message_of(e), goes_on]), e.advice), None
    except TimeoutError:
        late = phrase("Discord did not answer. The token is written without a check.")
        return Finding(TOKEN, late, phrase("Run `gpt2bot doctor` later.")), None

"""Running the bot on Discord: the login, what to do when it fails, and stopping on a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import discord

from bot.app import build_bot
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, is_transient
from bot.ops.checks import machine, models
from bot.ops.checks.check import Finding, run_all, thread_check
from bot.ops.recovery import single_instance_lock
from bot.settings import Settings, SettingsError, TransientError
from core.tasks import BackgroundTasks
from i18n.phrase import phrase
from training.checkpoints import verify_sizes

log = logging.getLogger(__name__)

CLOSE_CODE_AUTH_FAILED = 4004
"""The gateway's close code for a token that is not valid (any more)."""
FATAL_CLOSE_CODES = {
    4010: phrase("Discord says that this shard does not exist."),
    4011: phrase("Discord says that the bot is in too many servers for one connection."),
    4012: phrase("Discord no longer speaks this version of its interface: update the bot."),
    4013: phrase("Discord does not know an intent that the bot asks for: update the bot."),
}
"""Close codes after which another login would end in the same way, and use up the day's logins."""
STARTUP_CHECK_TIMEOUT_S = 300.0
"""Seconds after which a check is given up: nobody waits for it."""


async def run_bot(settings: Settings) -> None:
    """Run on Discord until SIGINT or SIGTERM.

    Raises:
        SettingsError: there is no token, or Discord refuses it; or a bot runs on the home already.
    """
    if settings.discord_token is None:
        raise SettingsError(phrase("DISCORD_TOKEN is not set."))
    token = settings.discord_token.get_secret_value()
    stopping = asyncio.create_task(wait_for_stop_signal(), name="stop signal")
    await asyncio.sleep(0)  # lets it install its handlers: from here on a signal stops in order
    with single_instance_lock(settings):
        async with BackgroundTasks() as checks:
            checks.spawn(log_problems(settings), name="checks at the start")
            await _run_with_intent_fallback(settings, token, stopping)


async def _run_with_intent_fallback(
    settings: Settings, token: str, stopping: asyncio.Task[None]
) -> None:
    """Run with the Message Content intent if Discord grants it, else without."""
    try:
        await _run(settings, token, stopping, message_content=True)
    except discord.PrivilegedIntentsRequired:
        log.warning(
            "The Message Content intent is off in Discord's developer portal: I answer mentions, "
            "replies, direct messages and /chat, but not the other messages of enabled channels."
        )
        await _run(settings, token, stopping, message_content=False)


async def _run(
    settings: Settings, token: str, stopping: asyncio.Task[None], *, message_content: bool
) -> None:
    async with build_bot(settings, message_content=message_content) as bot:
        running = asyncio.create_task(_start(bot, token))
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            log.info("stopping: replies under way are finished first")
    if stopping.done():  # the login may still be under way
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    else:
        await running


async def _start(bot: Gpt2Bot, token: str) -> None:
    try:
        await bot.start(token)
    except discord.LoginFailure as e:
        raise SettingsError(
            phrase(
                "Discord does not accept DISCORD_TOKEN: copy it again from the Bot page of your "
                "application in the developer portal."
            )
        ) from e
    except (*DISCORD_ERRORS, discord.GatewayNotFound, discord.ConnectionClosed) as e:
        # Only what discord.py gives up on comes here: it restores lost connections itself.
        raise _startup_error(e) from e


def _startup_error(error: Exception) -> SettingsError:
    """The sentence for a login or a connection that failed for good."""
    if isinstance(error, discord.ConnectionClosed) and error.code == CLOSE_CODE_AUTH_FAILED:
        return SettingsError(
            phrase(
                "Discord does not accept DISCORD_TOKEN any more: copy a new one from the Bot page."
            )
        )
    if isinstance(error, discord.ConnectionClosed) and error.code in FATAL_CLOSE_CODES:
        return SettingsError(FATAL_CLOSE_CODES[error.code])
    if isinstance(error, discord.HTTPException) and not is_transient(error):
        return SettingsError(phrase("Discord does not let me start: {error}.", error=error))
    return TransientError(
        phrase(
            "Discord cannot be reached ({error}): check the connection, then start me again.",
            error=error,
        )
    )


async def wait_for_stop_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # on Windows Ctrl-C ends the loop by itself
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()


async def log_problems(settings: Settings) -> None:
    """Check the disk, the memory and the models beside the start, and log what is wrong.

    What the start itself finds out (the token, the database, the worker, the Hub) is not checked
    twice.
    """
    checks: dict[str, Callable[[], Finding]] = {
        machine.DISK: partial(machine.check_disk, settings),
        machine.MEMORY: partial(machine.check_memory, settings),
        models.EMBEDDED: models.check_embedded_models,
        models.MODELS: partial(models.check_extra_models, settings),
        models.CHECKPOINTS: partial(models.check_checkpoints, settings, verify_sizes),
    }
    for one in await run_all(
        [thread_check(name, check, STARTUP_CHECK_TIMEOUT_S) for name, check in checks.items()]
    ):
        if not one.ok:
            log.warning("%s: %s %s", one.name, one.detail, one.advice)

"""Starting the bot from a command: the log first, then `bot.run`."""

from __future__ import annotations

import asyncio
import logging

from bot.cli.voice import silence_voice_warnings
from bot.settings import Settings

VERBOSE_LOGGERS = ("aiosqlite", "discord")
"""At DEBUG these log SQL values and gateway events, which contain what people say."""


def start_bot(settings: Settings) -> None:
    """Run on Discord until Ctrl-C or SIGTERM.

    Raises:
        SettingsError: there is no token, or Discord refuses it; or a bot runs on the home already.
    """
    from bot.run import run_bot

    configure_bot_logging(settings)
    silence_voice_warnings()
    asyncio.run(run_bot(settings))


def configure_bot_logging(settings: Settings) -> None:
    """Set up logging by the settings; what people say is only logged with LOG_CONTENT."""
    from core.logging import configure_logging

    configure_logging(settings.log_level, settings.log_format, settings.secrets)
    if settings.log_level == "DEBUG" and not settings.log_content:
        for name in VERBOSE_LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)

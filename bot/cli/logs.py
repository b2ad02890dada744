"""The log of the bot's own process: the operator's settings, and libraries that would say too much.

Knows which libraries write what people say. How a line looks is `core.logging`.
"""

from __future__ import annotations

import logging

from bot.settings import Settings
from core.logging import configure_logging

VERBOSE_LOGGERS = ("aiosqlite", "discord")
"""At DEBUG these write every statement with its values, and every event of the gateway."""


def configure_bot_logging(settings: Settings) -> None:
    """Write this process's log as the settings say."""
    token = settings.discord_token.get_secret_value().strip() if settings.discord_token else ""
    configure_logging(settings.log_level, settings.log_format, [token])
    if settings.log_level == "DEBUG" and not settings.log_content:
        for name in VERBOSE_LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)

"""The log of the bot's own process: the operator's settings, and libraries that would say too much.

Knows which libraries write what people say. How a line looks is `core.logging`.
"""

from __future__ import annotations

import logging

from bot.settings import Settings
from core.logging import set_up

TALKATIVE = ("aiosqlite", "discord")
"""At DEBUG these write every statement with its values, and every event of the gateway."""


def start_log(settings: Settings) -> None:
    """Write this process's log as the settings say."""
    token = settings.discord_token.get_secret_value().strip() if settings.discord_token else ""
    set_up(settings.log_level, settings.log_format, [token])
    if settings.log_level == "DEBUG" and not settings.log_content:
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.INFO)

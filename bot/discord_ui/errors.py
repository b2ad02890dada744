"""The one place where an exception becomes a sentence for a person in Discord."""

from __future__ import annotations

import discord
from discord import app_commands

from bot.discord_ui.delivery.requests import is_transient
from core.errors import ImportRefused, Refusal, StoreError
from i18n.phrase import join_phrases, message_of, phrase
from i18n.reader import say
from model.errors import ModelError
from training.errors import TrainingError

EXPECTED_ERRORS = (StoreError, ImportRefused, ModelError, TrainingError, Refusal)
"""Errors whose message is already a sentence for people."""

DISCORD_UNAVAILABLE = phrase(
    "Discord is not accepting my messages right now. Please try again later."
)
UNEXPECTED = phrase(
    "Sorry, something went wrong on my side. The operator can read more in the log."
)
PERMISSION_LABELS = {
    "manage_guild": phrase("Manage Server"),
    "administrator": phrase("Administrator"),
}
"""The names of required permissions as Discord shows them."""


def error_message(error: BaseException) -> str:
    """The sentence for the person, in the language that is set; never a traceback."""
    return say(_error_phrase(error))


def _error_phrase(error: BaseException) -> str:
    match error:
        case app_commands.CommandInvokeError():
            return _error_phrase(error.original)
        case app_commands.MissingPermissions():
            return phrase(
                "You need the permission {permission} for that.",
                permission=join_phrases(map(_name, error.missing_permissions), ", "),
            )
        case app_commands.NoPrivateMessage():
            return phrase("That only works in a server, not in a direct message.")
        case discord.Forbidden():
            return phrase("I lack a permission for that in this channel.")
        case _ if isinstance(error, EXPECTED_ERRORS):
            return message_of(error)
        case Exception() if is_transient(error):
            return DISCORD_UNAVAILABLE
        case _:
            return UNEXPECTED


def is_expected(error: BaseException) -> bool:
    """Whether the error is an ordinary one, which needs no traceback in the log."""
    return _error_phrase(error) is not UNEXPECTED


def _name(permission: str) -> str:
    return PERMISSION_LABELS.get(permission, permission.replace("_", " ").title())

"""The one place where an exception becomes a sentence for a person in Discord."""

from __future__ import annotations

import discord
from discord import app_commands

from bot.faults import is_passing
from data.errors import ImportRefused, StoreError
from i18n.reader import say
from model.errors import ModelError
from training.errors import TrainingError


class Refusal(Exception):
    """What a person asks for cannot be done; the message tells them why."""


EXPECTED = (StoreError, ImportRefused, ModelError, TrainingError, Refusal)
"""Errors whose message is already a sentence for people."""

OUT_OF_REACH = "Discord does not take my answers right now. Please try again later."
UNEXPECTED = "Sorry, something went wrong on my side. The operator can read more in the log."


def sentence(error: BaseException) -> str:
    """What to tell the person; never a traceback."""
    match error:
        case app_commands.CommandInvokeError():
            return sentence(error.original)
        case app_commands.MissingPermissions():
            return f"You need the permission {_names(error.missing_permissions)} for that."
        case app_commands.NoPrivateMessage():
            return "That only works in a server, not in a direct message."
        case discord.Forbidden():
            return "I lack a permission for that in this channel."
        case _ if isinstance(error, EXPECTED):
            return _own_words(error)
        case Exception() if is_passing(error):
            return OUT_OF_REACH
        case _:
            return UNEXPECTED


def is_expected(error: BaseException) -> bool:
    """Whether the error is part of normal life, so that the log needs no traceback."""
    return sentence(error) != UNEXPECTED


def _names(permissions: list[str]) -> str:
    known = {"manage_guild": "Manage Server", "administrator": "Administrator"}
    return " and ".join(known.get(name, name.replace("_", " ").title()) for name in permissions)


def _own_words(error: BaseException) -> str:
    """What an expected error says, in the language of whoever reads it."""
    return say(error.args[0]) if error.args else str(error)

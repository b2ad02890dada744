"""The one place where an exception becomes a sentence for a person in Discord."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import discord
from discord import app_commands

from bot.chat.errors import NotAdmitted, ReplyDeleted
from bot.discord_ui.http_errors import DISCORD_ERRORS
from bot.discord_ui.reply import StreamingReply
from bot.discord_ui.retry import is_transient
from core.errors import ImportRefused, Refusal, StoreError
from i18n.phrase import join_phrases, message_of, phrase
from i18n.reader import say
from model.errors import ModelError
from training.errors import TrainingError

log = logging.getLogger(__name__)

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


@asynccontextmanager
async def shown_on(
    reply: StreamingReply, client: discord.Client, asked_id: int, *, interaction: bool
) -> AsyncIterator[None]:
    """Show an error in the block at the end of the reply, so that none is left half-written.

    An error of an `interaction` can also be answered apart from the reply: it is raised if nothing
    of the reply was shown, or if the reply that it was to replace was restored.

    Raises:
        discord.HTTPException, ...: one of `DISCORD_ERRORS`: nothing can be shown there.
    """
    try:
        yield
    except ReplyDeleted:
        log.info("the reply to %s was deleted while it was written", asked_id)
    except DISCORD_ERRORS:
        raise
    except Exception as e:
        if client.is_closed():
            log.info("no reply to %s: I am shutting down", asked_id)
        elif interaction and not reply.started:
            raise
        elif interaction or not (isinstance(e, NotAdmitted) and e.already_notified):
            await _end_with(reply, e, asked_id)


async def _end_with(reply: StreamingReply, error: Exception, asked_id: int) -> None:
    with suppress(ReplyDeleted):
        await reply.fail(error_message(error))
    if reply.replaces:
        raise error  # the old reply is back, so the reason is not shown
    if not is_expected(error):
        log.exception("no reply to %s", asked_id)


def _name(permission: str) -> str:
    return PERMISSION_LABELS.get(permission, permission.replace("_", " ").title())

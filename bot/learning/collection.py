"""Collecting: what a member who agreed says in an enabled channel becomes an example that waits.

Knows the store's rules of consent. Does not know Discord, or who calls it after a reply.
"""

from __future__ import annotations

import logging

from bot.learning.consent import CONSENT_VERSION
from core.errors import NoConsent
from core.records import Example, NewExample, ReplyRecord, ReviewStatus
from data.storage.storage import Storage

log = logging.getLogger(__name__)

CHAT_SOURCE = "chat"


class Collector:
    """Keeps what may be kept of every reply in the channels that are enabled."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def on_reply(self, record: ReplyRecord, asked: str, reply: str) -> None:
        """As `collect`, after each reply."""
        enabled = record.channel_id in await self._storage.channels.enabled()
        await collect(self._storage, record, asked, reply, learn_from_chat=True, enabled=enabled)


async def collect(
    storage: Storage,
    record: ReplyRecord,
    user_text: str,
    bot_text: str,
    *,
    learn_from_chat: bool,
    enabled: bool,
) -> Example | None:
    """Keep what was asked and the reply for review; None where that is not allowed.

    It is allowed if the operator switched it on (`learn_from_chat`), the channel is `enabled`, and
    the asker agreed, in this scope, to the present text of the consent. Call it when the reply's
    own message is in the history.

    Raises:
        StoreError: nothing was kept.
    """
    if not (learn_from_chat and enabled and user_text.strip() and bot_text.strip()):
        return None
    consent = await storage.consents.active(record.scope, record.asked_by)
    if consent is None or consent.version < CONSENT_VERSION:
        return None
    try:
        example = await storage.examples.add(
            NewExample(
                record.scope,
                user_text,
                bot_text,
                record.asked_by,
                CHAT_SOURCE,
                asked_by=record.asked_by,
                reply_id=record.reply_id,
                consent_version=consent.version,
                status=ReviewStatus.WAITING,
            )
        )
    except NoConsent:  # it was withdrawn in this very moment
        return None
    return await _keep_if_unchanged(storage, record, example)


async def _keep_if_unchanged(
    storage: Storage, record: ReplyRecord, example: Example
) -> Example | None:
    """The example; taken out again if its messages were deleted or edited while it was stored."""
    said = await storage.messages.get_many([record.asked_id, record.reply_id])
    if [one.message.content for one in said] == [example.user, example.bot]:
        return example
    ours = example.reply_id == record.reply_id and example.consent_version is not None
    if ours:
        await storage.examples.remove(example.scope, example.id)
        log.info("the reply %d was not kept: it was deleted or edited", record.reply_id)
    return None

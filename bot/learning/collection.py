"""Collecting training examples from chat, with the asker's consent.

Knows the store and the version of the consent. Does not know Discord, or the operator's switch: if
LEARN_FROM_CHAT is off, nobody calls this.
"""

from __future__ import annotations

import logging

from bot.learning.consent import CONSENT_VERSION
from core.errors import NoConsent
from core.records import NewExample, ReplyRecord, ReviewStatus
from data.dataset.cleaning import CHAT_SOURCE
from data.storage.storage import Storage

log = logging.getLogger(__name__)


async def collect(storage: Storage, record: ReplyRecord, asked: str, reply: str) -> None:
    """Keep a message and its reply as an example to review, if the channel is enabled and the asker
    has agreed, in this scope, to the current version of the consent.

    The reply must already be in the history.

    Raises:
        StoreError: nothing was kept.
    """
    consent = await storage.consents.active(record.scope, record.asked_by)
    if consent is None or consent.version < CONSENT_VERSION:
        return
    enabled = record.channel_id in await storage.channels.enabled()
    if not (enabled and asked.strip() and reply.strip()):
        return
    try:
        # The INSERT checks the consent again, so a withdrawal in between is not missed.
        example = await storage.examples.add(
            NewExample(
                record.scope,
                asked,
                reply,
                record.asked_by,
                CHAT_SOURCE,
                asked_by=record.asked_by,
                reply_id=record.reply_id,
                consent_version=consent.version,
                status=ReviewStatus.WAITING,
            )
        )
    except NoConsent:  # withdrawn just now
        return
    # A deletion or edit removes the examples made from a message. If it came before `add`, there
    # was none yet to remove, so compare with the history afterwards.
    history = await storage.messages.get_many([record.asked_id, record.reply_id])
    if [one.message.content for one in history] == [example.user, example.bot]:
        return
    # `add` returns an existing example with the same text; one that was taught stays.
    if example.reply_id == record.reply_id and example.consent_version is not None:
        await storage.examples.remove(example.scope, example.id)
        log.info("reply %d was deleted or edited, so it is not kept as an example", record.reply_id)

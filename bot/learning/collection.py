"""Collecting: what a member who agreed says in an enabled channel becomes an example that waits.

Knows the store's rules of consent. Does not know Discord, or who calls it after a reply.
"""

from __future__ import annotations

import logging

from bot.learning.consent import CONSENT_VERSION
from core.errors import NoConsent
from core.records import Example, ReplyRecord, ReviewStatus
from data.storage.store import Store

log = logging.getLogger(__name__)

CHAT_SOURCE = "chat"


class Collector:
    """Keeps what may be kept of every reply in the channels that are enabled."""

    def __init__(self, store: Store, *, learn_from_chat: bool) -> None:
        self._store = store
        self._learn_from_chat = learn_from_chat

    async def on_reply(self, record: ReplyRecord, asked: str, reply: str) -> None:
        """As `collect`, after each reply."""
        if not self._learn_from_chat:
            return
        enabled = record.channel_id in await self._store.enabled_channels()
        await collect(self._store, record, asked, reply, learn_from_chat=True, enabled=enabled)


async def collect(
    store: Store,
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
    consent = await store.active_consent(record.scope, record.asked_by)
    if consent is None or consent.version < CONSENT_VERSION:
        return None
    try:
        example = await store.add_example(
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
    except NoConsent:  # it was withdrawn in this very moment
        return None
    return await _keep_if_unchanged(store, record, example)


async def _keep_if_unchanged(store: Store, record: ReplyRecord, example: Example) -> Example | None:
    """The example; taken out again if its messages were deleted or edited while it was stored."""
    said = await store.messages([record.asked_id, record.reply_id])
    if [one.message.content for one in said] == [example.user, example.bot]:
        return example
    ours = example.reply_id == record.reply_id and example.consent_version is not None
    if ours:
        await store.remove_example(example.scope, example.id)
        log.info("the reply %d was not kept: it was deleted or edited", record.reply_id)
    return None

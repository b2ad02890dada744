"""Records that the tests of the store make again and again."""

from __future__ import annotations

from datetime import UTC, datetime

from core.records import Message, ReplyRecord, Role, StoredMessage

GUILD, OTHER = 1, 2
CHANNEL = 10
BOT, ADA, BEN, CLEO = 1000, 7, 8, 9
NOON = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def said(
    discord_id: int,
    text: str,
    author: int = ADA,
    *,
    scope: int | None = GUILD,
    channel: int = CHANNEL,
    at: datetime = NOON,
) -> StoredMessage:
    role = Role.ASSISTANT if author == BOT else Role.USER
    return StoredMessage(discord_id, channel, author, Message(role, text), at, scope)


def made(
    reply_id: int, asked_id: int, asked_by: int = ADA, *, scope: int = GUILD, at: datetime = NOON
) -> ReplyRecord:
    return ReplyRecord(
        reply_id=reply_id,
        channel_id=CHANNEL,
        scope=scope,
        asked_id=asked_id,
        asked_by=asked_by,
        model="gpt2-2",
        source="checkpoints/gpt2-2",
        seen=(asked_id,),
        cut=0,
        prompt_tokens=31,
        completion_tokens=9,
        seed=None,
        sampling={"temperature": 0.7, "top_k": 40},
        seconds=0.25,
        created_at=at,
    )

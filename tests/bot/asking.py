"""What the tests of feedback do again and again: ask, and look at the reply and its record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from core.records import ReplyRecord
from data.storage.storage import Storage
from tests.bot.conftest import World


def storage_of(world: World) -> Storage:
    storage = world.bot.get_cog("Feedback")._storage
    assert isinstance(storage, Storage)
    return storage


async def all_forgotten(storage: Storage) -> None:
    """Wait until nothing is left to erase of whom is to be forgotten: that is done beside."""
    async with asyncio.timeout(30):
        while await storage.erasures.unfinished():
            pass


def buttons(message: Any) -> list[str]:
    """The ids of the buttons under a message."""
    return [item.custom_id for row in message.components for item in row.children]


async def ask(world: World, text: str = "hi", who: Any = None) -> Any:
    """Let somebody ask; the bot's reply."""
    await world.say(who or world.ben, text)
    return world.general.last_message


async def record_of(world: World, reply: Any) -> ReplyRecord:
    record = await storage_of(world).replies.get(reply.id)
    assert record is not None
    return record


async def until(true: Callable[[], object]) -> None:
    """Let the bot go on until something is true that it does without being waited for."""
    while not true():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)

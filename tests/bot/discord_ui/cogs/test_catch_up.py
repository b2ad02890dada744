"""What people wrote while the bot was away is answered when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bot.app import build_bot
from bot.discord_ui.cogs.catch_up import WAS_AWAY, WAS_RESTARTED
from bot.discord_ui.delivery import reply as replies
from bot.discord_ui.views.reply_buttons import stops_reply_to
from bot.settings import Settings
from tests.bot.asking import storage_of
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker

LONG = " ".join(f"word{n}" for n in range(50))


async def log_in(world: World) -> None:
    """What discord.py announces then; SimCord does so later, and on the machine's clock."""
    with world.env.time_context():
        await world.bot.get_cog("CatchUp").on_shard_ready(0)
    await world.env.settle()


@asynccontextmanager
async def outage(world: World) -> AsyncIterator[None]:
    """Discord delivers nothing of what is said in the block, not even afterwards."""
    await log_in(world)
    [shard] = world.bot.shards.values()
    await shard.disconnect()
    yield
    await shard.reconnect()
    await world.env.advance_time(5)
    await log_in(world)


def said_in(world: World, channel: Any = None) -> list[str]:
    return [one.content for one in (channel or world.general).history()]


def ours(world: World) -> list[Any]:
    return [one for one in world.general.history() if one.author == world.bot.user]


async def test_questions_of_an_outage_are_answered(world: World) -> None:
    await world.ada.slash(world.general, "channel enable")
    other = world.guild.create_text_channel("other")
    await world.say(world.ben, "before", other)
    await world.ben.send_dm("hello in private")
    private = world.ben.user.dm_channel
    me = world.bot.user.mention
    async with outage(world):
        await world.ben.send(world.general, "one")
        await world.ada.send(world.general, "two")
        await world.ben.send(other, "not for the bot")
        await world.ben.send(other, f"{me} three")
        await world.ben.send_dm("four")
    assert said_in(world) == ["one", "two", "you said one", "you said two"]
    assert said_in(world, other)[-1] == "you said three"
    assert said_in(world, private)[-2:] == ["four", "you said four"]
    async with outage(world):
        pass
    assert len(said_in(world)) == 4, "nothing is answered twice"


async def test_of_an_old_question_its_author_reads_once_that_the_bot_was_away(
    settings: Settings, worker: FakeWorker
) -> None:
    async with open_world(settings.model_copy(update={"stale_s": 1e-9}), worker) as world:
        await world.ada.slash(world.general, "channel enable")
        async with outage(world):
            await world.ben.send(world.general, "one")
            await world.ben.send(world.general, "two")
        assert said_in(world) == ["one", "two", str(WAS_AWAY)]
        async with outage(world):
            pass
        assert len(said_in(world)) == 3


async def test_a_long_outage_is_remembered_although_the_process_lives(world: World) -> None:
    await world.ada.slash(world.general, "channel enable")
    await log_in(world)
    [shard] = world.bot.shards.values()
    await shard.disconnect()
    with world.env.time_context():
        await world.ben.send(world.general, "hello")
        await world.env.advance_time(1800)
        await world.bot.get_cog("CatchUp").record_alive()
    await shard.reconnect()
    await world.env.advance_time(5)
    await log_in(world)
    assert said_in(world) == ["hello", str(WAS_AWAY)]


async def test_a_reply_that_is_being_written_is_left_alone(
    world: World, worker: FakeWorker
) -> None:
    """A new login comes while the process lives, too."""
    worker.answer = lambda _: LONG
    worker.gate_at = 1
    worker.gate.clear()
    worker.park = lambda wait: world.env.external_wait(wait, reason="the gate is closed")
    assert await world.say(world.ben, "hello") == "word0"
    await log_in(world)
    assert world.last() == "word0"
    worker.gate.set()
    await world.env.settle()
    assert [one.content for one in ours(world)] == [LONG]


async def test_a_paused_bot_does_not_even_say_that_it_was_away(
    settings: Settings, worker: FakeWorker
) -> None:
    async with open_world(settings.model_copy(update={"stale_s": 1e-9}), worker) as world:
        await world.ada.slash(world.general, "channel enable")
        await world.ada.slash(world.general, "pause")
        async with outage(world):
            await world.ben.send(world.general, "hello")
        assert said_in(world) == ["hello"]


async def test_a_channel_that_cannot_be_read_stops_no_other(world: World) -> None:
    await world.ada.slash(world.general, "channel enable")
    secret = world.guild.create_text_channel("secret")
    await world.ada.slash(secret, "channel enable")
    async with outage(world):
        await world.ben.send(world.general, "hello")
        await world.bot.http.delete_channel(secret.id)
    assert said_in(world) == ["hello", "you said hello"]


@asynccontextmanager
async def killed_while_answering(
    world: World, worker: FakeWorker, settings: Settings
) -> AsyncIterator[World]:
    """The bot dies after the first word of a reply to ben's hello; within the block another one
    runs on the same home."""
    await log_in(world)
    killed = asyncio.Event()

    async def park(waiting: Coroutine[Any, Any, None]) -> None:
        waiting.close()
        await world.env.external_wait(killed.wait(), reason="the bot is still alive")
        raise asyncio.CancelledError

    worker.answer = lambda _: LONG
    worker.gate_at = 1
    worker.gate.clear()
    worker.park = park
    assert await world.say(world.ben, "hello") == "word0"
    killed.set()
    await world.env.settle()
    assert world.last() == "word0"
    async with build_bot(settings, worker=FakeWorker()) as second:
        await world.env.restart_bot(second)
        again = World(**{**vars(world), "bot": second})
        await log_in(again)
        yield again


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """SimCord does not wait for the typing indicator."""
    monkeypatch.setattr(replies, "TYPING_DELAY_S", 3600.0)
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)


async def test_a_question_of_a_killed_bot_is_answered_at_the_next_start(
    world: World, worker: FakeWorker, settings: Settings
) -> None:
    async with killed_while_answering(world, worker, settings) as again:
        assert [one.content for one in ours(again)] == ["you said hello"]
        stored = await storage_of(again).messages.context(world.general.id, 10)
        assert [one.message.content for one in stored] == ["hello", "you said hello"]


async def test_a_half_reply_that_comes_too_late_loses_its_stop_button(
    world: World, worker: FakeWorker, settings: Settings
) -> None:
    late = settings.model_copy(update={"stale_s": 1e-9})
    async with killed_while_answering(world, worker, late) as again:
        half, *notice = ours(again)
        assert half.content == f"word0\n-# {WAS_RESTARTED}"
        assert stops_reply_to(half) is None
        assert [one.content for one in notice] == [str(WAS_AWAY)]

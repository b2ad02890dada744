"""What Discord does to a bot in a year: it is down, sends things twice, and takes things away."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import discord
import pytest

from bot.app import build_bot
from bot.discord_ui.cogs.chat import ROLE_MENTION_UNREADABLE
from bot.discord_ui.delivery import reply as replies
from bot.discord_ui.delivery import requests as retry
from bot.discord_ui.errors import DISCORD_UNAVAILABLE
from bot.settings import Settings
from model.errors import WorkerDied
from tests.bot.asking import ask, record_of, storage_of
from tests.bot.conftest import World
from tests.fakes import FakeWorker

LONG = " ".join(f"word{n}" for n in range(50))
MESSAGES, MESSAGE = "/channels/*/messages", "/channels/*/messages/*"
TYPING = "/channels/*/typing"

Open = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of a reply is shown at once, and the end again at once; SimCord does not wait for
    the typing indicator."""
    monkeypatch.setattr(replies, "TYPING_DELAY_S", 3600.0)
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr(replies, "EDIT_INTERVAL_S", 0.0)
    monkeypatch.setattr(retry, "RETRY_DELAYS_S", (0.0, 0.0))


@asynccontextmanager
async def replying(world: World, worker: FakeWorker, channel: Any = None) -> AsyncIterator[None]:
    """Within the block ben's reply has its first word in Discord; at its end it goes on."""
    worker.answer = lambda _: LONG
    worker.gate_at = 1
    worker.gate.clear()
    worker.park = lambda wait: world.env.external_wait(wait, reason="the gate is closed")
    assert await world.say(world.ben, "hello", channel) == "word0"
    yield
    worker.gate.set()
    await world.env.settle()
    worker.answer = lambda messages: f"you said {messages[-1].content}"


async def history(world: World) -> list[str]:
    stored = await storage_of(world).messages.context(world.general.id, 50)
    return [one.message.content for one in stored]


def sent_by(world: World, event: str, author: Any = None) -> Any:
    """The newest payload of a gateway event."""
    return next(
        entry[2]
        for entry in reversed(world.env.backend.transcript)
        if entry[:2] == ("GATEWAY", event)
        and (author is None or int(entry[2]["author"]["id"]) == author.id)
    )


async def again(world: World, event: str, payload: Any) -> None:
    """Discord sends it once more, as it may after a lost connection."""
    world.env.backend.emit(event, payload)
    await world.env.settle()


# --- Discord is down -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_reply_that_discord_does_not_take_is_sent_again(world: World, status: int) -> None:
    world.env.inject_error("POST", MESSAGES, status=status, times=2)
    reply = await ask(world, "hi")
    assert reply.content == "you said hi"
    assert (await record_of(world, reply)).seen
    assert await history(world) == ["hi", "you said hi"]


@pytest.mark.parametrize("status", [500, 429])
async def test_pieces_that_discord_does_not_take_come_with_the_end(
    world: World, worker: FakeWorker, status: int
) -> None:
    async with replying(world, worker):
        world.env.inject_error("PATCH", MESSAGE, status=status, times=49)
    assert world.last() == LONG
    assert await history(world) == ["hello", LONG]
    assert len([m for m in world.general.history() if m.author == world.bot.user]) == 1


async def test_an_end_that_discord_never_takes_is_in_the_history_and_the_log(
    world: World, worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async with replying(world, worker):
        world.env.inject_error("PATCH", MESSAGE, status=503, times=None)
    assert world.last() == "word0"
    assert await history(world) == ["hello", LONG]
    assert (await record_of(world, world.general.last_message)).completion_tokens == 50
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        f"the end of the reply {world.general.last_message.id} cannot be shown: "
        "503 Error (error code: 0): Internal Server Error (injected by test)"
    ]


async def test_a_reply_that_discord_never_takes_is_in_the_log_and_the_next_one_comes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.env.inject_error("POST", MESSAGES, status=502, times=None)
    assert await world.say(world.ben, "hi") is None
    assert "no answer to" in caplog.text
    world.env.backend.faults.clear()
    assert await world.say(world.ben, "again") == "you said again"
    assert await history(world) == ["hi", "again", "you said again"]


async def test_an_answer_to_a_command_that_discord_does_not_take(
    open_fake: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fake(check_errors=False) as world:
        world.env.inject_error("PATCH", "/webhooks/*", status=503, times=None)
        await world.ben.slash(world.general, "chat", text="hello")
        assert world.last() == DISCORD_UNAVAILABLE
    assert not [r for r in caplog.records if r.exc_info]


@pytest.mark.parametrize("status", [500, 429, 403, 404])
async def test_a_typing_indicator_that_fails_does_not_matter(world: World, status: int) -> None:
    world.env.inject_error("POST", TYPING, status=status, times=None)
    assert await world.say(world.ben, "hi") == "you said hi"


@pytest.mark.parametrize("status", [503, 403, 404])
async def test_a_sentence_that_cannot_be_told_disturbs_nobody(
    world: World, worker: FakeWorker, status: int
) -> None:
    worker.failure = WorkerDied("The model stopped.")
    world.env.inject_error("POST", MESSAGES, status=status, times=None)
    assert await world.say(world.ben, "hi") is None
    await world.ben.send(world.general, world.bot.user.mention)  # a hint cannot be told either
    world.env.backend.faults.clear()
    worker.failure = None
    assert await world.say(world.ben, "again") == "you said again"


# --- the connection is lost ----------------------------------------------------------------------


async def test_a_reply_goes_on_while_the_gateway_is_away(world: World, worker: FakeWorker) -> None:
    [shard] = world.bot.shards.values()
    async with replying(world, worker):
        await shard.disconnect()
    assert world.last() == LONG
    await shard.reconnect()
    await world.env.settle()
    assert await world.say(world.ben, "back?") == "you said back?"
    assert await history(world) == ["hello", LONG, "back?", "you said back?"]


async def test_each_of_several_shards_answers_its_servers(open_fake: Open) -> None:
    async with open_fake(shard_count=2) as world:
        assert len(world.bot.shards) == 2
        for shard in (0, 1):
            guild = world.env.create_guild(f"of shard {shard}", shard_id=shard)
            channel, member = guild.create_text_channel("general"), guild.add_member(world.ben.user)
            await member.send(channel, f"{world.bot.user.mention} hello")
            assert world.last(channel) == "you said hello"


async def test_a_message_that_comes_twice_is_answered_once(
    world: World, worker: FakeWorker
) -> None:
    await world.say(world.ben, "hello")
    await again(world, "MESSAGE_CREATE", sent_by(world, "MESSAGE_CREATE", world.ben))
    assert len(worker.heard) == 1
    assert await history(world) == ["hello", "you said hello"]
    assert len(world.general.history()) == 2


async def test_a_command_that_comes_twice_is_done_once(world: World, worker: FakeWorker) -> None:
    await world.ben.slash(world.general, "chat", text="hello")
    await again(world, "INTERACTION_CREATE", sent_by(world, "INTERACTION_CREATE"))
    assert len(worker.heard) == 1
    assert len(world.general.history()) == 1


async def test_a_press_that_comes_twice_counts_once(world: World) -> None:
    """A second press of the same button would take the like back."""
    reply = await ask(world)
    await world.ben.click(reply, custom_id="reply:up:")
    await again(world, "INTERACTION_CREATE", sent_by(world, "INTERACTION_CREATE"))
    assert (await storage_of(world).replies.rating_summary(reply.id)).up == 1


async def test_a_form_that_comes_twice_teaches_once(world: World) -> None:
    reply = await ask(world)
    form = await world.ada.click(reply, custom_id="reply:better:")
    await world.ada.submit_modal(form, {"question": "hi", "answer": "ho"})
    await again(world, "INTERACTION_CREATE", sent_by(world, "INTERACTION_CREATE"))
    assert len(await storage_of(world).examples.all(world.guild.id)) == 1


async def test_a_command_that_comes_too_late_does_nothing_and_leaves_a_line_in_the_log(
    open_fake: Open, worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_fake(check_errors=False) as world:
        world.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062)
        await world.ben.slash(world.general, "chat", text="hello")
        assert worker.heard == []
        assert await history(world) == []
    assert "came too late to be answered" in caplog.text
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_an_answer_after_the_interaction_expired_leaves_a_line_in_the_log(
    open_fake: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_fake(check_errors=False) as world:
        world.env.inject_error("PATCH", "/webhooks/*", status=401, code=50027, times=None)
        await world.ben.slash(world.general, "chat", text="hello")
    assert "came too late to be answered" in caplog.text
    assert not [r for r in caplog.records if r.exc_info]


async def test_without_the_message_history_a_reply_refers_to_nothing(world: World) -> None:
    world.env.inject_error("POST", MESSAGES, status=400, code=160002)
    assert await world.say(world.ben, "hi") == "you said hi"
    assert world.general.last_message.reference is None


async def test_the_result_of_a_poll_is_no_question(world: World, worker: FakeWorker) -> None:
    await world.ada.slash(world.general, "channel enable")
    await world.ben.send(world.general, "hi")
    result = {**sent_by(world, "MESSAGE_CREATE", world.ben), "id": "99", "type": 46}
    await again(world, "MESSAGE_CREATE", result)
    assert len(worker.heard) == 1


async def test_without_the_content_a_mention_of_the_role_is_explained(open_fake: Open) -> None:
    """Discord sends the text of messages that mention the bot, and none of those that mention the
    role that it has in the server."""
    async with open_fake(message_content=False) as world:
        role = world.guild.create_role("its own")
        [guild] = world.bot.guilds
        cached = guild.get_role(role.id)
        assert cached is not None
        cached.tags = discord.RoleTags({"bot_id": str(world.bot.user.id)})  # SimCord has none
        await world.ben.send(world.general, f"{role.mention} hello")
        assert world.last() == ROLE_MENTION_UNREADABLE


async def test_a_press_that_comes_too_late_leaves_a_line_in_the_log(
    world: World, worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await ask(world)
    world.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062)
    await world.ben.click(reply, custom_id="reply:again:")
    assert len(worker.heard) == 1, "it did not begin"
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_a_bot_that_was_started_anew_knows_what_was_said(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    await world.say(world.ben, "hello")
    async with build_bot(settings, worker=worker) as second:
        await world.env.restart_bot(second)
        world.bot = second
        assert await world.say(world.ben, "and now?") == "you said and now?"
        assert [m.content for m in worker.heard[-1][1]] == [
            "hello",
            "you said hello",
            "and now?",
        ]


# --- things are taken away while a reply grows ---------------------------------------------------

Take = Callable[[World], Awaitable[object]]


async def the_message(world: World) -> None:
    await world.bot.http.delete_message(world.general.id, world.general.last_message.id)


async def the_channel(world: World) -> None:
    world.env.inject_error("PATCH", MESSAGE, status=404, code=10003, times=None)


async def the_permission(world: World) -> None:
    world.env.inject_error("*", "/channels/*", status=403, code=50013, times=None)


async def the_view(world: World) -> None:
    world.env.inject_error("*", "/channels/*", status=403, code=50001, times=None)


async def the_thread(world: World) -> None:
    """Somebody archives it: what is in it cannot be edited."""
    world.env.inject_error("PATCH", MESSAGE, status=400, code=50083, times=None)


@pytest.mark.parametrize("take", [the_message, the_channel, the_permission, the_view, the_thread])
async def test_a_reply_that_cannot_grow_ends_quietly(
    world: World, worker: FakeWorker, take: Take, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bot")
    async with replying(world, worker):
        await take(world)
        caplog.clear()
    assert worker.running == 0
    assert worker.spoken == 2, "the worker writes no words that nobody can read"
    told = [
        r for r in caplog.records if r.name.endswith(("cogs.chat", "discord_ui.delivery.reply"))
    ]
    assert len(told) == 1
    assert await history(world) == ["hello"]
    world.env.backend.faults.clear()
    assert await world.say(world.ben, "again") == "you said again"


async def test_a_reply_in_a_channel_that_is_deleted_ends_quietly(
    world: World, worker: FakeWorker
) -> None:
    channel = world.guild.create_text_channel("short lived")
    async with replying(world, worker, channel):
        await world.bot.http.delete_channel(channel.id)
    assert worker.spoken == 2
    assert await world.say(world.ben, "again") == "you said again"


async def test_a_thread_that_is_locked_gets_no_reply_and_one_line_in_the_log(
    world: World, worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    world.env.inject_error("POST", MESSAGES, status=403, code=160005, times=None)
    assert await world.say(world.ben, "hello") is None
    assert caplog.text.count("no answer to") == 1


# --- what is kept --------------------------------------------------------------------------------


async def test_no_view_and_no_member_is_remembered(world: World) -> None:
    """Buttons are found by their ids; a bot that kept each reply's would grow for ever."""
    for n in range(3):
        await world.say(world.ben, f"do you know {world.ada.mention}? {n}")
        assert world.last() == f"you said do you know @ada? {n}"
    assert world.bot._connection._view_store._views == {}
    assert world.bot._connection._view_store._synced_message_views == {}
    [guild] = world.bot.guilds
    assert list(guild.members) == [guild.me]
    assert isinstance(world.bot, discord.AutoShardedClient)

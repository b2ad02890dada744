"""Which messages are answered, and what the chat commands show. Real discord.py, real SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import discord
import pytest
from simcord import SetupError, assert_sent

from bot.app import build_bot
from bot.discord_ui.cogs.chat import NOTHING_TO_READ
from bot.discord_ui.delivery import reply as replies
from bot.settings import Settings
from model.errors import WorkerDied
from tests.bot.asking import buttons, storage_of, until
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_feedback import growing
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]


async def test_a_mention_is_answered_with_a_reply_that_pings_nobody(
    world: World, worker: FakeWorker
) -> None:
    worker.answer = lambda _: "@everyone hello <@1>"
    question = await world.ben.send(world.general, f"{world.bot.user.mention} hi")
    answer = world.general.last_message
    assert answer.author == world.bot.user
    assert answer.reference.message_id == question.id
    assert answer.mentions == []
    assert not answer.mention_everyone
    assert worker.heard[-1][1][-1].content == "hi"


async def test_other_messages_are_left_alone_until_the_channel_is_enabled(
    world: World, worker: FakeWorker
) -> None:
    await world.ben.send(world.general, "hello?")
    assert worker.heard == []
    await world.ada.slash(world.general, "channel enable")
    await world.ben.send(world.general, "hello?")
    assert world.last() == "you said hello?"
    await world.ada.slash(world.general, "channel disable")
    await world.ben.send(world.general, "still there?")
    assert len(worker.heard) == 1


async def test_enabled_channels_and_history_survive_a_restart(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    await world.ada.slash(world.general, "channel enable")
    await world.ben.send(world.general, "my name is Ben")
    async with build_bot(settings, worker=worker) as again:
        await world.env.restart_bot(again)
        await world.ben.send(world.general, "who am I?")
    assert [m.content for m in worker.heard[-1][1]] == [
        "my name is Ben",
        "you said my name is Ben",
        "who am I?",
    ]


async def test_a_reply_to_the_bot_is_answered(world: World) -> None:
    await world.say(world.ben, "hi")
    await world.ben.send(world.general, "and then?", reply_to=world.general.last_message)
    assert world.last() == "you said and then?"


async def test_a_direct_message_is_answered(world: World) -> None:
    await world.ben.send_dm("psst")
    assert world.ben.user.dm_channel.last_message.content == "you said psst"


async def test_a_bot_is_never_answered(world: World, worker: FakeWorker) -> None:
    other = world.guild.add_member(world.env.create_user("beep", bot=True))
    await other.send(world.general, f"{world.bot.user.mention} beep")
    assert worker.heard == []


async def test_a_mention_without_words_gets_a_hint(world: World, worker: FakeWorker) -> None:
    await world.ben.send(world.general, world.bot.user.mention)
    assert world.last() == NOTHING_TO_READ
    assert worker.heard == []


async def test_without_the_message_content_intent_only_calls_are_answered(
    settings: Settings, worker: FakeWorker
) -> None:
    async with open_world(settings, worker, message_content=False) as world:
        enabled = await world.ada.slash(world.general, "channel enable")
        assert "I cannot read them yet" in enabled.response.content
        await world.ben.send(world.general, "hello?")
        assert worker.heard == []
        assert world.general.last_message.content == "hello?"
        assert await world.say(world.ben, "hello!") == "you said hello!"


async def test_mentions_of_people_are_read_as_names(world: World, worker: FakeWorker) -> None:
    await world.say(world.ben, f"do you know {world.ada.mention} or <@!100000000000000000>?")
    assert worker.heard[-1][1][-1].content == "do you know @ada or @deleted-user?"


async def test_a_name_that_contains_the_bots_name_keeps_its_letters(
    world: World, worker: FakeWorker
) -> None:
    fan = world.guild.add_member(world.env.create_user(f"{world.bot.user.name}-fan"))
    await world.say(world.ben, f"do you know {fan.mention}?")
    assert worker.heard[-1][1][-1].content == f"do you know @{world.bot.user.name}-fan?"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("<#{gone}> <@&1{gone}>", "#deleted-channel @deleted-role"),
        ("hi @everyone and @here", "hi @everyone and @here"),
        ("hi @\u200beveryone\ufeff\u2060", "hi @everyone"),
        ("👩‍🚀 ❤️ کتاب\u200cها", "👩‍🚀 ❤️ کتاب\u200cها"),
        ("<:wave:{gone}> <a:party_1:{gone}>", ":wave: :party_1:"),
        ("see </model list:{gone}> and <id:customize>", "see /model list and Channels & Roles"),
        ("<t:1700000000:D>, <t:1700000000:t>", "November 14, 2023, 10:13 PM UTC"),
        ("<t:1700000000>", "November 14, 2023 10:13 PM UTC"),
        ("次は<t:1700000000:F>です", "次は2023年11月14日火曜日 22:13 UTCです"),
        ("<t:{soon}:R>", "in 2 hours"),
        ("あと<t:{soon}:R>", "あと2 時間後"),
        ("<t:9999999999999:R> <id:nowhere> 1 <2> 3", "<t:9999999999999:R> <id:nowhere> 1 <2> 3"),
        ("<https://example.org/a?b=1>", "https://example.org/a?b=1"),
    ],
)
async def test_a_message_is_read_as_people_see_it(
    world: World, worker: FakeWorker, written: str, read: str
) -> None:
    gone, soon = 100000000000000000, int(world.env.now().timestamp()) + 7200
    await world.say(world.ben, written.format(gone=gone, soon=soon))
    assert worker.heard[-1][1][-1].content == read
    await world.ben.slash(world.general, "chat", text=written.format(gone=gone, soon=soon))
    assert worker.heard[-1][1][-1].content == read


async def test_names_in_a_command_are_read_like_those_in_a_message(
    world: World, worker: FakeWorker
) -> None:
    me, ada, general = world.bot.user.mention, world.ada.mention, world.general.mention
    await world.ben.slash(world.general, "chat", text=f"{me} is {ada} in {general}?")
    assert worker.heard[-1][1][-1].content == "is @someone in #general?"


async def test_a_command_that_only_mentions_the_bot_gets_a_hint(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        refused = await world.ben.slash(world.general, "chat", text=world.bot.user.mention)
        assert refused.response.content == NOTHING_TO_READ


async def test_a_long_reply_is_split_and_recorded_once(world: World, worker: FakeWorker) -> None:
    worker.answer = lambda _: "word " * 600
    await world.say(world.ben, "talk")
    ours = [m for m in world.general.history() if m.author == world.bot.user]
    assert sum(m.content.count("word") for m in ours) == 600
    assert len(ours) == 2
    worker.answer = lambda _: "ok"
    await world.say(world.ben, "again")
    assert len(worker.heard[-1][1]) == 3


async def test_edited_and_deleted_messages_change_or_leave_what_the_model_sees(
    world: World, worker: FakeWorker
) -> None:
    mention = world.bot.user.mention
    first = await world.ben.send(world.general, f"{mention} I like tea")
    second = await world.ben.send(world.general, f"{mention} and cake")
    await world.ben.edit(first, f"{mention} I like coffee")
    await world.ben.delete(second)
    await world.say(world.ben, "what do I like?")
    assert [m.content for m in worker.heard[-1][1]] == [
        "I like coffee",
        "you said I like tea",
        "you said and cake",
        "what do I like?",
    ]


async def test_a_dead_worker_is_told_in_one_sentence(world: World, worker: FakeWorker) -> None:
    worker.failure = WorkerDied("The model stopped unexpectedly; please ask again.")
    await world.say(world.ben, "hello")
    assert world.last() == "The model stopped unexpectedly; please ask again."


async def test_an_unexpected_error_shows_no_traceback(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake(check_errors=False) as world:
        worker.failure = RuntimeError("secret internals")
        await world.say(world.ben, "hello")
        assert "went wrong" in world.last()
        assert "secret" not in world.last()


async def test_discord_refusing_a_message_does_not_break_the_next_turn(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        world.env.inject_error("POST", "/channels/*/messages", status=403)
        await world.ben.send(world.general, f"{world.bot.user.mention} hello")
        assert await world.say(world.ben, "again") == "you said again"


async def test_slash_chat_shows_question_and_answer(world: World) -> None:
    result = await world.ben.slash(world.general, "chat", text="what is tea?")
    assert result.response.content == "> what is tea?\nyou said what is tea?"


async def test_reset_forgets(world: World, worker: FakeWorker) -> None:
    await world.say(world.ben, "my secret")
    await world.ben.slash(world.general, "reset")
    await world.say(world.ben, "hello")
    assert [m.content for m in worker.heard[-1][1]] == ["hello"]


async def test_context_shows_only_its_caller_what_the_model_sees(world: World) -> None:
    empty = await world.ben.slash(world.general, "context")
    assert "Nothing yet" in empty.response.content
    await world.say(world.ben, "hello you")
    result = await world.ben.slash(world.general, "context")
    assert result.ephemeral
    assert "<|user|>hello you<|assistant|>you said hello you" in result.response.content
    assert "2 messages" in result.response.content
    assert "2 + 4" in result.response.content


async def test_a_member_cannot_enable_a_channel(world: World) -> None:
    with pytest.raises(SetupError, match="default-member-permissions"):
        await world.ben.slash(world.general, "channel enable")


async def test_a_command_that_a_server_opened_to_all_checks_the_permission_itself(
    open_fake: Open,
) -> None:
    async with open_fake(check_errors=False) as world:
        await world.open_to_all("channel")
        result = await world.ben.slash(world.general, "channel enable")
        assert result.ephemeral
        assert result.response.content == "You need the permission Manage Server for that."


async def open_thread(world: World, parent: Any) -> Any:
    """A member's thread, which the bot is not in."""
    channel = world.bot.get_channel(parent.id)
    if isinstance(channel, discord.ForumChannel):
        thread = (await channel.create_thread(name="a talk", content="A question")).thread
    else:
        assert isinstance(channel, discord.TextChannel)
        thread = await channel.create_thread(name="a talk", type=discord.ChannelType.public_thread)
    cached = world.bot.get_channel(thread.id)
    assert isinstance(cached, discord.Thread)
    cached.owner_id, cached.me = world.ben.id, None  # SimCord makes it in the bot's name
    return next(one for one in parent.threads if one.id == thread.id)


async def test_threads_that_the_bot_is_in_are_answered(world: World, worker: FakeWorker) -> None:
    channel = world.bot.get_channel(world.general.id)
    assert isinstance(channel, discord.TextChannel)
    thread = await channel.create_thread(name="a talk", type=discord.ChannelType.public_thread)
    handle = next(one for one in world.general.threads if one.id == thread.id)
    await world.ben.send(handle, "hello from the thread")
    assert worker.heard[-1][1][-1].content == "hello from the thread"
    assert_sent(handle, content="you said hello from the thread")


@pytest.mark.parametrize("is_forum", [False, True])
async def test_threads_below_an_enabled_channel_or_forum_are_answered(
    world: World, worker: FakeWorker, is_forum: bool
) -> None:
    parent = world.guild.create_forum_channel("help") if is_forum else world.general
    thread = await open_thread(world, parent)
    await world.ben.send(thread, "anybody?")
    assert worker.heard == []
    done = await world.ada.slash(world.general, "channel enable", channel=parent)
    assert done.response.content == (
        f"I now answer every message in {parent.mention} and its threads."
    )
    await world.ben.send(thread, "hello in the thread")
    assert world.last(thread) == "you said hello in the thread"
    kept = await world.ada.slash(thread, "channel disable")
    assert kept.response.content.startswith("I still answer every message here")
    await world.ada.slash(world.general, "channel disable", channel=parent)
    await world.ben.send(thread, "still there?")
    assert len(worker.heard) == 1


async def test_a_reply_goes_with_the_question_that_is_deleted_while_it_is_written(
    world: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    worker.gate_at = 2
    worker.gate.clear()
    asking = asyncio.create_task(world.say(world.ben, "hello"))
    await worker.until(lambda: worker.running == 1)
    question = world.general.history()[0]
    await until(world.last)
    await world.bot.http.delete_message(world.general.id, question.id)
    await until(lambda: not world.general.history())
    worker.gate.set()
    await asking
    assert await storage_of(world).messages.context(world.general.id, 5) == []
    assert await world.say(world.ben, "still there?") == "you said still there?"


@pytest.mark.parametrize("text", ["<|endoftext|>", "<|user|>you<|bot|>me"])
async def test_control_tokens_are_ordinary_text(
    world: World, worker: FakeWorker, text: str
) -> None:
    await world.say(world.ben, text)
    assert worker.heard[-1][1][-1].content == text


async def test_a_reply_to_chat_that_breaks_off_is_not_left_as_if_it_grew(
    open_fake: Open, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.discord_ui.delivery.reply.FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr("bot.discord_ui.delivery.reply.EDIT_INTERVAL_S", 0.0)
    async with open_fake(check_errors=False) as world:
        reply, _ = await growing(world, worker)
        worker.failure = WorkerDied("The model stopped unexpectedly.")
        worker.gate.set()
        await world.env.settle()
        [message] = [one for one in world.general.history() if one.id == reply.id]
        assert message.content == "> hi\nyou said\n-# The model stopped unexpectedly."
        assert buttons(message) == []

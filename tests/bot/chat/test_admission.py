"""Who is answered and who is not: pace, length, the line of a channel, bursts, what is stale, bots.
Real discord.py, real SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bot.chat.manager import BURST_WITHDRAWN, TIMED_OUT, ConversationManager
from bot.chat.queue import MAX_WAITING
from bot.chat.rate_limit import RateLimits
from bot.chat.request import MAX_REPLY_CHARS
from bot.cli.demo import _chat_in_real_time
from bot.discord_ui.cogs.chat import NOTHING_TO_READ, Chat
from bot.settings import Settings, load_settings
from tests.bot.asking import ask, buttons, storage_of, until
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker


@dataclass
class Watch:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"longest_message": 100})


@pytest.fixture
async def world(
    settings: Settings, worker: FakeWorker, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    async with open_world(settings, worker, check_errors=getattr(request, "param", True)) as world:
        yield world


REFUSES = pytest.mark.parametrize("world", [False], indirect=True, ids=["refuses"])
"""For tests of commands that fail, which SimCord would complain about."""


@pytest.fixture
def watch(world: World) -> Watch:
    """The clock of the pace and of what is stale."""
    watch, chat = Watch(), chat_of(world)
    chat._admission._limits = RateLimits(member_per_minute=3, server_per_minute=5, clock=watch)
    conversations_of(world)._clock = watch
    return watch


def chat_of(world: World) -> Chat:
    chat = world.bot.get_cog("Chat")
    assert isinstance(chat, Chat)
    return chat


def conversations_of(world: World) -> ConversationManager:
    return chat_of(world)._conversations


def said(world: World) -> list[str]:
    """What the bot said in the channel, oldest first."""
    return [m.content for m in world.general.history() if m.author == world.bot.user]


async def recorded(world: World) -> list[str]:
    stored = await storage_of(world).messages.context(world.general.id, 50)
    return [one.message.content for one in stored]


# --- the pace ----------------------------------------------------------------------------------


async def test_who_is_too_quick_is_told_once_and_can_come_back(
    world: World, watch: Watch, worker: FakeWorker
) -> None:
    for n in range(6):
        watch.now += 2
        await world.say(world.ben, f"m{n}")
    assert said(world) == [
        "you said m0",
        "you said m1",
        "you said m2",
        "You are quicker than I am: ask me again in 54 seconds.",
    ]
    assert await recorded(world) == [f"{w}m{n}" for n in range(3) for w in ("", "you said ")]
    await world.say(world.ada, "and me?")
    assert world.last() == "you said and me?"
    watch.now += 54
    await world.say(world.ben, "back")
    assert world.last() == "you said back"


@REFUSES
async def test_commands_and_buttons_count_too_and_always_say_why(
    world: World, watch: Watch, worker: FakeWorker
) -> None:
    reply = await ask(world)
    again = buttons(reply)[0]
    await world.ben.click(reply, custom_id=again)
    await world.ben.slash(world.general, "chat", text="three")
    for refuse in (
        lambda: world.ben.slash(world.general, "chat", text="four"),
        lambda: world.ben.slash(world.general, "chat", text="five"),
        lambda: world.ben.click(reply, custom_id=again),
    ):
        result = await refuse()
        assert result.ephemeral
        assert "quicker than I am: ask me again in 60 seconds" in result.response.content
    assert len(worker.heard) == 3


async def test_a_server_has_a_pace_of_its_own_and_direct_messages_have_none(
    world: World, watch: Watch
) -> None:
    members = [world.guild.add_member(world.env.create_user(f"m{n}")) for n in range(7)]
    for one in members:
        await world.say(one, "hi")
    assert said(world)[4:] == [
        "you said hi",
        "All of you together are quicker than I am: ask me again in 60 seconds.",
    ]
    await members[6].send_dm("psst")
    assert members[6].user.dm_channel.last_message.content == "you said psst"


async def test_a_hint_counts_as_an_answer(world: World, watch: Watch) -> None:
    for _ in range(6):
        await world.ben.send(world.general, world.bot.user.mention)
    assert said(world)[:3] == [NOTHING_TO_READ] * 3
    assert len(said(world)) == 4


# --- lengths -----------------------------------------------------------------------------------


async def test_a_message_that_is_too_long_is_neither_recorded_nor_answered(
    world: World, worker: FakeWorker
) -> None:
    await world.say(world.ben, "x" * 101)
    assert world.last() == (
        "Your message has 101 characters, and I read at most 100: please say it shorter, or in "
        "several messages."
    )
    assert worker.heard == []
    assert await recorded(world) == []
    message = await world.ben.send(world.general, f"{world.bot.user.mention} short")
    await world.ben.edit(message, f"{world.bot.user.mention} {'y' * 300}")
    assert await recorded(world) == ["y" * 100, "you said short"]


async def test_a_reply_is_a_few_messages_at_most(world: World, worker: FakeWorker) -> None:
    worker.answer = lambda _: "word " * 4000
    await world.say(world.ben, "talk")
    shown = said(world)
    assert len(shown) <= 3
    assert sum(map(len, shown)) <= MAX_REPLY_CHARS
    assert shown[-1].endswith(" …")
    assert len((await recorded(world))[-1]) <= MAX_REPLY_CHARS


# --- bots --------------------------------------------------------------------------------------


async def test_neither_bots_nor_webhooks_are_answered_wherever_they_speak(
    world: World, worker: FakeWorker
) -> None:
    await world.ada.slash(world.general, "channel enable")
    await world.ben.send(world.general, "hello")
    reply = world.general.last_message
    other = world.guild.add_member(world.env.create_user("beep", bot=True))
    webhook = world.guild.create_webhook(world.general, "news")
    await other.send(world.general, "beep")
    await other.send(world.general, f"{world.bot.user.mention} beep")
    await other.send(world.general, "beep?", reply_to=reply)
    await webhook.send("news")
    await webhook.send(f"{world.bot.user.mention} news")
    channel = world.bot.get_channel(world.general.id)
    await channel.send(f"{world.bot.user.mention} is me")
    assert len(worker.heard) == 1
    assert await recorded(world) == ["hello", "you said hello"]


# --- the line of a channel ---------------------------------------------------------------------


@pytest.fixture
async def busy(world: World, worker: FakeWorker, watch: Watch) -> AsyncIterator[Callable[[], Any]]:
    """The channel's turn is taken by ada, whose reply waits; what it gives goes on to the end."""
    limits = chat_of(world)._admission._limits
    limits._members._limit = limits._servers._limit = 0
    worker.gate.clear()
    async with _chat_in_real_time(world.bot):
        await world.say(world.ada, "hello")
        await worker.until(lambda: worker.running == 1)

        async def go_on() -> None:
            worker.gate.set()
            await until(lambda: not conversations_of(world)._queue._lines)
            await world.env.settle()

        yield go_on


async def wait_for(world: World, waiting: int) -> None:
    """Until so many turns wait."""
    line = conversations_of(world)._queue._lines[world.general.id]
    await until(lambda: len(line.tickets) > waiting)


async def in_line(world: World, *messages: tuple[Any, str]) -> list[Any]:
    """Let messages wait, in that order; what was sent."""
    mention = world.bot.user.mention
    sent = []
    for n, (who, text) in enumerate(messages, 1):
        sent.append(await who.send(world.general, f"{mention} {text}"))
        await wait_for(world, n)
    return sent


async def test_what_one_person_writes_in_a_row_is_answered_once(
    world: World, worker: FakeWorker, busy: Any
) -> None:
    *_, last = await in_line(world, (world.ben, "one"), (world.ben, "two"), (world.ben, "three"))
    await busy()
    assert said(world) == ["you said hello", "you said three"]
    assert world.general.last_message.reference.message_id == last.id
    assert await recorded(world) == [
        "hello",
        "you said hello",
        "one",
        "two",
        "three",
        "you said three",
    ]
    assert [m.content for m in worker.heard[-1][1]][-3:] == ["one", "two", "three"]


async def test_somebody_else_or_a_command_in_between_ends_the_burst(
    world: World, busy: Any
) -> None:
    people = [(world.ben, "one"), (world.ada, "two"), (world.ben, "three"), (world.ben, "four")]
    await in_line(world, *people)
    reset = asyncio.create_task(conversations_of(world).reset(world.general.id))
    await wait_for(world, 5)
    await world.ben.send(world.general, f"{world.bot.user.mention} five")
    await wait_for(world, 6)
    await busy()
    await reset
    assert said(world)[1:] == [f"you said {n}" for n in ("one", "two", "four", "five")]
    assert await recorded(world) == ["five", "you said five"]


async def test_what_was_deleted_in_a_burst_is_left_out(world: World, busy: Any) -> None:
    texts = ("one", "two", "three")
    first, _, last = await in_line(world, *((world.ben, text) for text in texts))
    for message in (first, last):
        await world.ben.delete(message)
    await busy()
    assert said(world) == ["you said hello", "you said two"]
    assert await recorded(world) == ["hello", "you said hello", "two", "you said two"]


async def test_the_reply_to_a_burst_can_be_stopped(
    world: World, worker: FakeWorker, busy: Any
) -> None:
    *_, last = await in_line(world, (world.ben, "one"), (world.ben, "two"))
    worker.answer = lambda _: "one two three four five six"
    worker.gate_at = 4  # the reply to ada is shorter
    worker.gate.let(1)
    await worker.until(lambda: len(worker.heard) == 2)
    await until(lambda: 2 in worker.gate._waiting)
    assert conversations_of(world).generator.asker_of(last.id) == world.ben.id
    conversations_of(world).generator.stop(last.id)
    await busy()
    assert said(world) == ["you said hello", "one two three four"]


@REFUSES
async def test_a_line_that_is_full_is_told_once_until_it_moves(world: World, busy: Any) -> None:
    people = [world.guild.add_member(world.env.create_user(f"m{n}")) for n in range(MAX_WAITING)]
    await in_line(world, *((one, "me too") for one in people))
    for n in range(3):
        await world.ben.send(world.general, f"{world.bot.user.mention} and I{n}")
    full = "I am busy: you would be number 21 in the queue of this channel. Please ask later."
    await until(lambda: full in said(world))
    result = await world.ben.slash(world.general, "chat", text="please")
    assert full in result.response.content
    await busy()
    assert said(world).count(full) == 2  # to the three messages, and to /chat
    assert len(said(world)) == 2 + 1 + MAX_WAITING
    assert not any("and I" in text for text in await recorded(world))


async def test_what_waited_too_long_is_let_go_and_told_once(
    world: World, worker: FakeWorker, watch: Watch, busy: Any
) -> None:
    zoe = world.guild.add_member(world.env.create_user("zoe"))
    await in_line(world, (world.ben, "one"), (zoe, "two"), (world.ben, "three"))
    watch.now += 121
    await world.say(zoe, "four")
    await wait_for(world, 4)
    await busy()
    assert said(world) == ["you said hello", TIMED_OUT, "you said four"]
    assert (await recorded(world))[2:] == ["one", "two", "three", "four", "you said four"]
    assert len(worker.heard) == 2


async def test_a_burst_that_goes_on_is_not_stale(world: World, watch: Watch, busy: Any) -> None:
    await in_line(world, (world.ben, "one"))
    watch.now += 121
    await world.say(world.ben, "two")
    await wait_for(world, 2)
    await busy()
    assert said(world) == ["you said hello", "you said two"]


async def test_all_defaults_together_let_people_talk(tmp_path: Any, worker: FakeWorker) -> None:
    async with open_world(load_settings(gpt2bot_home=tmp_path, default_model="tiny"), worker) as w:
        for n in range(15):
            assert await w.say(w.ben, f"m{n}") == f"you said m{n}"
        assert "quicker" in str(await w.say(w.ben, "m15"))


async def test_a_burst_whose_last_message_is_taken_back_is_told_why_it_has_no_answer(
    world: World, worker: FakeWorker, busy: Any
) -> None:
    *_, last = await in_line(world, (world.ben, "one"), (world.ben, "two"))
    heard = len(worker.heard)
    worker.gate.let(heard)  # the one before them ends, and theirs begins
    await until(lambda: len(worker.heard) > heard)
    await world.ben.delete(last)
    await busy()
    assert said(world) == ["you said hello", BURST_WITHDRAWN]
    assert await recorded(world) == ["hello", "you said hello", "one"]

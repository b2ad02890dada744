"""Messages over real HTTP: posted once although answers are lost, and within Discord's limits."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import discord
import pytest

from benchmarks.discord_rest import ME, DiscordRest, connected
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery import reply as replies
from bot.discord_ui.delivery import requests, rest_traffic
from bot.discord_ui.delivery.reply import StreamingReply, TypingIndicators
from bot.discord_ui.delivery.requests import defer, post_with_retries
from bot.discord_ui.delivery.rest_traffic import PACE_PER_S, RestTraffic
from bot.discord_ui.views.reply_buttons import reply_views
from core.metrics import Metrics
from tests.bot.conftest import World

FAULTS = ["reset", "not json", 500, 502, 503]
CHANNEL = 77


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once, also those of discord.py."""
    monkeypatch.setattr(requests, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(discord.http, "asyncio", Sleeping(lambda _: asyncio.sleep(0)))


class Sleeping:
    """asyncio for one module, with another `sleep`."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


@pytest.fixture
def rest() -> DiscordRest:
    return DiscordRest(limited=False)


@pytest.fixture
async def bot(rest: DiscordRest) -> AsyncIterator[Gpt2Bot]:
    bot = Gpt2Bot()
    async with connected(bot, rest):
        yield bot


def channel_of(bot: Gpt2Bot) -> discord.PartialMessageable:
    return bot.get_partial_messageable(CHANNEL)


def texts(rest: DiscordRest) -> list[str]:
    return [one["content"] for one in rest.messages.values()]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_message_whose_answer_is_lost_is_posted_once(
    bot: Gpt2Bot, rest: DiscordRest, fault: str | int
) -> None:
    rest.faults = [fault, fault]
    message = await post_with_retries(channel_of(bot), "hello")
    assert texts(rest) == ["hello"]
    assert message.id in rest.messages
    assert rest.calls["send"] == 3


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_part_of_a_reply_is_posted_once(
    bot: Gpt2Bot, rest: DiscordRest, fault: str | int
) -> None:
    channel = channel_of(bot)
    reply = StreamingReply(channel.send, channel.send)
    rest.faults = [fault, fault]
    await reply.finish("a" * 1990 + " " + "b" * 1990)
    assert texts(rest) == ["a" * 1990, "b" * 1990]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_lost_beginning_becomes_the_whole_reply(
    bot: Gpt2Bot, rest: DiscordRest, monkeypatch: pytest.MonkeyPatch, fault: str | int
) -> None:
    """Discord answers the retry with the message that is there, which has only the first word."""
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    channel = channel_of(bot)
    reply = StreamingReply(channel.send, channel.send)
    rest.faults = [fault] * 3
    await reply.add("The")
    await reply.finish("The whole reply.")
    assert texts(rest) == ["The whole reply."]
    await StreamingReply(channel.send, channel.send).finish("Another.")
    assert texts(rest) == ["The whole reply.", "Another."]


async def test_requests_are_counted_by_kind_and_refused_ones_too(
    rest: DiscordRest,
) -> None:
    metrics = Metrics()
    bot = Gpt2Bot(traffic=RestTraffic(metrics))
    rest.faults = [429]
    async with connected(bot, rest):
        channel = channel_of(bot)
        with pytest.raises(discord.HTTPException):
            await channel.send("refused")
        message = await channel.send("hello")
        await message.edit(content="hi")
        await message.delete()
        await channel.typing()
    values = {
        (sample.name, sample.labels["kind"]): sample.value
        for family in metrics._registry.collect()
        for sample in family.samples
        if sample.name.startswith("gpt2bot_discord")
    }
    requests_ = "gpt2bot_discord_requests_total"
    expected = {"send": 2, "edit": 1, "delete": 1, "typing": 1, "interaction": 0, "other": 1}
    assert {kind: values[requests_, kind] for kind in expected} == expected
    assert values["gpt2bot_discord_rate_limited_total", "send"] == 1


@pytest.mark.parametrize("end", ["finish", "fail"])
async def test_a_lost_beginning_does_not_keep_its_stop_button(
    bot: Gpt2Bot, rest: DiscordRest, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    channel = channel_of(bot)
    reply = StreamingReply(channel.send, channel.send, rows=reply_views(42))
    rest.faults = [503]
    await reply.add("Hello.")
    await getattr(reply, end)("Hello.")
    [message] = rest.messages.values()
    assert "reply:stop" not in json.dumps(message["components"])
    assert ("reply:again" in json.dumps(message["components"])) == (end == "finish")


async def test_an_edit_that_fails_after_a_lost_answer_posts_nothing_again(
    bot: Gpt2Bot, rest: DiscordRest
) -> None:
    """Discord remembers a nonce for some minutes only."""
    channel = channel_of(bot)
    sent: list[str] = []

    async def send(content: str, *, nonce: str) -> discord.Message:
        sent.append(content)
        message = await channel.send(content, nonce=nonce)
        rest.edit_faults = [503]
        return message

    rest.faults = [503]
    await StreamingReply(send, send).finish("Hello.")
    assert sent == ["Hello.", "Hello."]
    assert texts(rest) == ["Hello."]
    assert rest.calls == {"send": 2, "edit": 2}


@pytest.mark.parametrize("fault", [500, 502, 503])
async def test_a_deferral_whose_answer_is_lost_goes_on(
    bot: Gpt2Bot, rest: DiscordRest, fault: int
) -> None:
    """discord.py repeats it, and hears that the interaction has been acknowledged (40060)."""
    rest.faults = [fault]
    payload: Any = {
        "id": "5",
        "application_id": "4711",
        "type": 2,
        "token": "t",
        "version": 1,
        "channel_id": str(CHANNEL),
        "user": ME,
        "data": {"id": "6", "name": "chat", "type": 1},
        "attachment_size_limit": 0,
    }
    interaction = discord.Interaction(data=payload, state=bot._connection)
    await defer(interaction, thinking=True)
    await interaction.edit_original_response(content="hello")
    assert texts(rest) == ["hello"]
    assert rest.calls["interaction"] == 2


# --- the shared limit ----------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def nap(self, seconds: float) -> None:
        self.naps.append(seconds)


async def fill(traffic: RestTraffic, number: int, path: str = "/channels/1/messages") -> None:
    from yarl import URL

    for _ in range(number):
        await traffic._on_start(None, None, _Params("POST", URL(f"http://d/api/v10{path}")))  # type: ignore[arg-type]


class _Params:
    def __init__(self, method: str, url: Any) -> None:
        self.method, self.url = method, url


async def test_typing_is_left_out_first_then_edits_until_there_is_room_again() -> None:
    clock = Clock()
    traffic = RestTraffic(Metrics(), clock, clock.nap)
    seen = []
    for _ in range(3):
        seen.append((traffic.may_type(), traffic.may_edit()))
        await fill(traffic, 20)
    assert clock.naps == [1.0] * 15
    assert seen == [(True, True), (True, True), (False, False)]
    clock.now += 2
    assert (traffic.may_type(), traffic.may_edit()) == (True, True)
    await fill(traffic, 30)
    assert (traffic.may_type(), traffic.may_edit()) == (False, True)
    clock.now += 1
    await fill(traffic, 500, "/interactions/1/token/callback")
    assert traffic.may_type(), "answers to interactions have no part in the limit"


@pytest.mark.parametrize("seed", range(5))
async def test_what_cannot_be_left_out_waits_for_its_turn(seed: int) -> None:
    """A thousand messages, some spread out and some at once: no second has more than its share,
    they go in the order in which they came, and no longer wait than they need."""
    chance, clock, gone = random.Random(seed), Clock(), list[float]()
    traffic = RestTraffic(Metrics(), clock, clock.nap)
    for _ in range(1000):
        clock.now += chance.choice([0.0, 0.0, chance.expovariate(20)])
        clock.naps.clear()
        await fill(traffic, 1)
        gone.append(clock.now + sum(clock.naps))
        if clock.naps:
            assert gone[-1] - gone[-1 - PACE_PER_S] == pytest.approx(1)
    assert gone == sorted(gone)
    together = zip(gone, gone[PACE_PER_S:], strict=False)
    assert all(later - first > 1 - 1e-6 for first, later in together)


async def test_without_room_a_reply_is_one_request(
    bot: Gpt2Bot, rest: DiscordRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr(replies, "EDIT_INTERVAL_S", 0.0)
    monkeypatch.setattr(rest_traffic, "GLOBAL_LIMIT_PER_S", 0)
    channel = channel_of(bot)
    reply = StreamingReply(channel.send, channel.send, may_edit=bot.traffic.may_edit)
    await reply.show_queue_position(3)
    for word in ["a", "reply", "in", "some", "words"]:
        await reply.add(f"{word} ")
    await reply.finish("a reply in some words")
    assert texts(rest) == ["a reply in some words"]
    assert rest.calls == {"send": 1}


async def test_a_channel_has_one_typing_indicator(
    bot: Gpt2Bot, rest: DiscordRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    woken = asyncio.Event()

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) > 1:
            woken.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(replies, "asyncio", Sleeping(nap))
    typing = TypingIndicators(bot.traffic)
    channel: Any = channel_of(bot)
    async with typing.show(channel), typing.show(channel), typing.show(channel):
        await woken.wait()
    assert naps == [1.0, 8.0]
    assert rest.calls == {"typing": 1}


# --- one event that cannot be read ---------------------------------------------------------------


async def test_an_event_that_cannot_be_read_is_logged_and_the_next_is_answered(
    open_fake: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fake() as world:
        parse = world.bot._connection.parsers
        parse["MESSAGE_CREATE"]({"id": "1"})
        parse["GUILD_ROLE_UPDATE"]({})
        assert caplog.text.count("an event that cannot be read") == 2
        assert await world.say(world.ben, "hi") == "you said hi"
        with pytest.raises(ConnectionError):
            parse["READY"]({})


# --- the list of commands ------------------------------------------------------------------------


async def test_the_commands_are_sent_again_only_when_they_changed(world: World) -> None:
    def sent() -> int:
        return sum(one.method == "PUT" for one in world.env.http_requests)

    bot: Any = world.bot
    assert sent() == 1
    await bot._sync_commands()
    assert sent() == 1
    bot.tree.remove_command("reset")
    await bot._sync_commands()
    assert sent() == 2
    await bot._sync_commands()
    assert sent() == 2

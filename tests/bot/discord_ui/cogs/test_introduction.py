"""The introduction in a new server: where, once, and what its buttons do. Real discord.py and
SQLite."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import discord
import pytest
from simcord.backend import serializers

from benchmarks.discord_rest import ME, DiscordRest, connected
from bot.app import build_bot
from bot.chat.admission import Pauses
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.cogs.introduction import (
    LEARNS_FROM_CONSENTING,
    LEARNS_WHAT_IS_TAUGHT,
    WHAT_I_AM,
    Introduction,
)
from bot.discord_ui.delivery import requests
from bot.ops.retention import purge_expired
from bot.settings import Settings
from core.errors import DiskFull
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from i18n.catalogue import JAPANESE
from tests.bot.asking import storage_of
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]
MESSAGES = "/channels/*/messages"
LABELS = ["Answer in this channel", "Teach me something", "Privacy"]
ONE_PHONE_SCREEN = 400
"""Characters."""


@pytest.fixture(autouse=True)
def _nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Retries come at once; what is expected of Discord is no error."""
    monkeypatch.setattr(requests, "RETRY_DELAYS_S", (0.0, 0.0))
    caplog.set_level(logging.INFO)
    yield
    assert [one.message for one in caplog.records if one.levelno >= logging.ERROR] == []


def announce(world: World, guild: Any = None, **changes: Any) -> None:
    """Discord sends the server as it does when the bot has been invited."""
    model = world.env.backend.get_guild((guild or world.guild).id)
    payload: Any = dict(serializers.guild_create_payload(world.env.backend, model))
    del payload["unavailable"]
    world.env.backend.emit("GUILD_CREATE", payload | changes)


async def join(world: World, guild: Any = None, **changes: Any) -> None:
    announce(world, guild, **changes)
    await world.env.settle()


def date_joining(world: World, ago: timedelta = timedelta()) -> None:
    """Let the bot have come to the server lately, by the clock of the machine."""
    assert world.bot.user is not None
    member = world.env.backend.get_guild(world.guild.id).members[world.bot.user.id]
    member.joined_at = (datetime.now(UTC) - ago).isoformat()


def introductions(*channels: Any) -> list[Any]:
    shown = (WHAT_I_AM, WHAT_I_AM.translate_to(JAPANESE))
    found = (one for channel in channels for one in channel.history())
    return [one for one in found if one.content.startswith(shown)]


def labels(message: Any) -> list[str]:
    return [button.label for row in message.components for button in row.children]


def locked_channel(guild: Any, name: str, **denied: bool) -> Any:
    denied = denied or {"send_messages": False}
    return guild.create_text_channel(
        name, overwrites={guild.default_role: discord.PermissionOverwrite(**denied)}
    )


def invite(world: World, guild: Any, who: Any) -> None:
    """The entry of the audit log."""
    assert world.bot.user is not None
    world.env.backend.record_audit_log(
        guild.id,
        discord.AuditLogAction.bot_add.value,
        target_id=world.bot.user.id,
        user_id=who.id,
    )


async def introduced(world: World) -> Any:
    await join(world)
    [message] = introductions(world.general)
    return message


# --- the message ---------------------------------------------------------------------------------


async def test_it_says_what_it_is_on_one_screen(world: World) -> None:
    message = await introduced(world)
    assert message.content.endswith(LEARNS_WHAT_IS_TAUGHT)
    assert len(message.content) < ONE_PHONE_SCREEN
    assert message.embeds == []
    assert labels(message) == LABELS


async def test_it_says_so_if_it_learns_from_conversations(
    settings: Settings, worker: FakeWorker
) -> None:
    learning = settings.model_copy(update={"learn_from_chat": True})
    async with open_world(learning, worker) as world:
        assert (await introduced(world)).content.endswith(LEARNS_FROM_CONSENTING)


async def test_it_is_in_the_language_of_the_server(open_fake: Open) -> None:
    async with open_fake(preferred_locale="ja") as world:
        message = await introduced(world)
        assert message.content.startswith("**はじめまして")
        assert labels(message) == ["このチャンネルで返事をする", "何か教える", "プライバシー"]


async def test_a_server_of_an_unknown_language_gets_english(open_fake: Open) -> None:
    async with open_fake(preferred_locale="fr") as world:
        assert (await introduced(world)).content.startswith(WHAT_I_AM)


# --- where ---------------------------------------------------------------------------------------


async def test_it_is_in_the_system_channel_if_there_is_one(world: World) -> None:
    system = world.guild.create_text_channel("system")
    world.env.backend.edit_guild(world.guild.id, {"system_channel_id": system.id})
    await join(world)
    assert len(introductions(system)) == 1
    assert introductions(world.general) == []


@pytest.mark.parametrize("denied", ["send_messages", "view_channel"])
async def test_else_in_the_first_channel_where_it_may_write(world: World, denied: str) -> None:
    guild = world.env.create_guild("Another")
    system = locked_channel(guild, "system", **{denied: False})
    locked = locked_channel(guild, "rules", **{denied: False})
    first, second = guild.create_text_channel("talk"), guild.create_text_channel("more")
    world.env.backend.edit_guild(guild.id, {"system_channel_id": system.id})
    await join(world, guild)
    assert len(introductions(first)) == 1
    assert introductions(system, locked, second) == []


@pytest.mark.parametrize("denied", ["send_messages", "view_channel"])
async def test_a_channel_where_nobody_could_answer_comes_last(world: World, denied: str) -> None:
    """The rules, announcements, or the channel of a team that nobody else sees."""
    assert world.bot.user is not None
    denying = discord.PermissionOverwrite(**{denied: False})
    speaking = discord.PermissionOverwrite(view_channel=True, send_messages=True)
    talk_in = {"Another": ["talk"], "For reading only": []}
    for name, open_to_all in talk_in.items():
        guild = world.env.create_guild(name)
        overwrites = {guild.default_role: denying, world.bot.user: speaking}
        rules = guild.create_text_channel("rules", overwrites=overwrites)
        world.env.backend.edit_guild(guild.id, {"system_channel_id": rules.id})
        talk = [guild.create_text_channel(one) for one in open_to_all]
        await join(world, guild)
        assert len(introductions(*talk)) == len(talk)
        assert len(introductions(rules)) == 1 - len(talk)


async def test_it_needs_no_permission_to_embed(world: World) -> None:
    guild = world.env.create_guild("Another")
    channel = locked_channel(guild, "talk", embed_links=False, attach_files=False)
    await join(world, guild)
    assert len(introductions(channel)) == 1


async def test_a_huge_server_costs_one_message(world: World) -> None:
    guild = world.env.create_guild("Huge")
    for number in range(499):
        locked_channel(guild, f"locked-{number}")
    last = guild.create_text_channel("last")
    before = len(world.env.http_requests)
    await join(world, guild, member_count=500_000, large=True)
    assert len(introductions(last)) == 1
    assert [one.path for one in world.env.http_requests[before:]] == [
        f"/channels/{last.id}/messages"
    ]


async def test_without_a_channel_whoever_invited_it_is_told(world: World) -> None:
    guild = world.env.create_guild("Quiet *place*")
    locked_channel(guild, "rules")
    invite(world, guild, world.ada)
    await join(world, guild)
    [message] = introductions(world.ada.user.dm_channel)
    assert "In Quiet \\*place\\* I may not write anywhere" in message.content
    assert labels(message) == ["Privacy"]
    told = await world.ada.user.click(message, label="Privacy")
    assert told.ephemeral
    await join(world, guild)
    assert len(introductions(world.ada.user.dm_channel)) == 1


@pytest.mark.parametrize("case", ["nobody known", "no audit log", "refused audit log"])
async def test_else_it_goes_to_the_log_and_may_come_later(
    world: World, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    guild = world.env.create_guild("Quiet")
    locked_channel(guild, "rules")
    if case != "nobody known":
        invite(world, guild, world.ada)
    if case == "no audit log":
        for role in world.env.backend.get_guild(guild.id).roles.values():
            left = role.permissions & ~discord.Permissions(view_audit_log=True).value
            world.env.backend.edit_role(guild.id, role.id, {"permissions": left})
    if case == "refused audit log":
        world.env.inject_error("GET", "/guilds/*/audit-logs", status=403, code=50013)
    await join(world, guild)
    assert f"no introduction in {guild.id}: there is nowhere I may write" in caplog.text
    opened = guild.create_text_channel("talk")
    await join(world, guild)
    assert len(introductions(opened)) == 1


async def test_closed_direct_messages_are_no_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    guild = world.env.create_guild("Quiet")
    locked_channel(guild, "rules")
    invite(world, guild, world.ada)
    world.env.inject_error("POST", MESSAGES, status=403, code=50007)
    await join(world, guild)
    assert "there is nowhere I may write" in caplog.text


# --- once ----------------------------------------------------------------------------------------


async def test_a_server_that_discord_sends_again_is_not_greeted_again(world: World) -> None:
    date_joining(world)
    await introduced(world)
    await join(world)
    await join(world, unavailable=False)
    assert len(introductions(world.general)) == 1


async def test_of_two_at_the_same_time_one_comes(world: World) -> None:
    for _ in range(3):
        announce(world)
    await world.env.settle()
    assert len(introductions(world.general)) == 1


async def test_who_invites_it_again_hears_it_once_the_record_has_expired(world: World) -> None:
    await introduced(world)
    for days, seen in ((0, 1), (29, 1), (31, 2)):
        world.env.backend.emit("GUILD_DELETE", {"id": str(world.guild.id)})
        today = datetime.now(UTC) + timedelta(days=days)
        await purge_expired(storage_of(world), 30, lambda today=today: today)
        await join(world)
        assert len(introductions(world.general)) == seen


@pytest.mark.parametrize(("ago", "greeted"), [(timedelta(hours=1), 1), (timedelta(days=2), 0)])
async def test_an_invitation_while_it_was_off(
    world: World, settings: Settings, worker: FakeWorker, ago: timedelta, greeted: int
) -> None:
    """As in the quick start, which invites it before it runs. A server of long ago is none."""
    date_joining(world, ago)
    for _ in range(2):
        async with build_bot(settings, worker=worker) as again:
            await world.env.restart_bot(again)
            assert len(introductions(world.general)) == greeted


@pytest.mark.parametrize("fault", ["reset", "not json", 502])
async def test_a_message_whose_answer_was_lost_is_there_once(
    storage: Storage, fault: str | int
) -> None:
    rest = DiscordRest(limited=False)
    rest.faults = [fault]
    bot = Gpt2Bot()
    member = {"user": ME, "roles": [], "joined_at": None, "deaf": False, "mute": False, "flags": 0}
    everything = str(discord.Permissions.all().value)
    role = {"id": "5", "name": "@everyone", "permissions": everything, "position": 0, "color": 0}
    payload: Any = {
        "id": "5",
        "name": "Server",
        "owner_id": "9",
        "roles": [role | {"hoist": False, "managed": False, "mentionable": False}],
        "members": [member],
        "channels": [{"id": "77", "type": 0, "name": "general", "position": 0}],
        "preferred_locale": "en-US",
        "features": [],
    }
    async with connected(bot, rest), BackgroundTasks() as tasks:
        bot._connection.user = discord.ClientUser(state=bot._connection, data=dict(ME))
        guild = bot._connection._add_guild_from_data(payload)
        pauses = Pauses(storage.pauses)
        cog = Introduction(bot, storage.introductions, pauses, tasks, learn_from_chat=False)
        await cog.introduce(guild)
        await cog.introduce(guild)
    assert len(rest.messages) == 1
    assert rest.calls["send"] == 2


# --- what can go wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_discord_does_not_take_is_sent_again(world: World, status: int) -> None:
    world.env.inject_error("POST", MESSAGES, status=status, times=2)
    await introduced(world)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_refused_message_goes_to_the_next_channel(
    world: World, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    other = world.guild.create_text_channel("other")
    world.env.inject_error("POST", MESSAGES, status=status)
    await join(world)
    assert len(introductions(other)) == 1
    assert introductions(world.general) == []
    assert "an introduction was not accepted" in caplog.text


async def test_a_server_that_refuses_everything_is_asked_three_times(world: World) -> None:
    for number in range(9):
        world.guild.create_text_channel(f"channel-{number}")
    world.env.inject_error("POST", MESSAGES, status=403, code=50013, times=None)
    before = len(world.env.http_requests)
    await join(world)
    sent = [one for one in world.env.http_requests[before:] if one.method == "POST"]
    assert len(sent) == 3
    world.env.backend.faults.clear()
    await introduced(world)


async def test_what_may_have_been_posted_is_not_tried_elsewhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    other = world.guild.create_text_channel("other")
    world.env.inject_error("POST", MESSAGES, status=503, times=None)
    await join(world)
    world.env.backend.faults.clear()
    await join(world)
    assert introductions(world.general, other) == []
    assert "an introduction was not accepted" in caplog.text


async def test_a_bot_that_is_removed_while_it_writes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    guild = world.env.create_guild("Another")
    guild.create_text_channel("talk")
    invite(world, guild, world.ada)
    announce(world, guild)
    world.env.backend.remove_guild(guild.id)
    await world.env.settle()
    assert "an introduction was not accepted" in caplog.text
    assert "no introduction in" in caplog.text
    assert world.ada.user.dm_channel.history() == [], "who removed it wants nothing of it"


async def test_a_server_that_is_unavailable_is_greeted_when_it_is_back(world: World) -> None:
    date_joining(world)
    await join(world, unavailable=True)
    assert introductions(world.general) == []
    await join(world, unavailable=False)
    assert len(introductions(world.general)) == 1


async def test_what_is_missing_in_a_server_that_is_back_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for role in world.env.backend.get_guild(world.guild.id).roles.values():
        left = role.permissions & ~discord.Permissions(attach_files=True).value
        world.env.backend.edit_role(world.guild.id, role.id, {"permissions": left})
    date_joining(world)
    await join(world, unavailable=False)
    assert caplog.text.count("I lack Attach Files there") == 1
    assert len(introductions(world.general)) == 1, "the cog hears of it too"


async def test_a_server_of_which_only_the_id_is_known(world: World) -> None:
    unknown: Any = {"id": "99", "unavailable": True}
    guild = world.bot._connection._add_guild_from_data(unknown)
    cog: Any = world.bot.get_cog("Introduction")
    await world.bot.on_ready()
    await cog.on_guild_available(guild)
    await cog.on_shard_ready(guild.shard_id)
    await cog.introduce(guild)
    assert await storage_of(world).introductions.claim(guild.id), "it may come later"


@pytest.mark.parametrize(("writable", "may_come_later"), [(False, True), (True, False)])
@pytest.mark.parametrize("error", [asyncio.CancelledError, RuntimeError])
async def test_what_ends_it_before_a_request_lets_it_come_later(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    writable: bool,
    may_come_later: bool,
) -> None:
    """After one, the message may be there."""

    async def end(*_: object, **__: object) -> None:
        raise error

    cog: Any = world.bot.get_cog("Introduction")
    if not writable:
        monkeypatch.setattr("bot.discord_ui.cogs.introduction.writable_channels", lambda _: [])
    monkeypatch.setattr(cog, "_find_inviter", end)
    monkeypatch.setattr("bot.discord_ui.cogs.introduction.post_with_retries", end)
    with pytest.raises(error):
        await cog.introduce(world.bot.get_guild(world.guild.id))
    claimed = await storage_of(world).introductions.claim(world.guild.id)
    assert claimed == may_come_later


async def test_a_paused_bot_says_nothing_until_it_is_resumed(world: World) -> None:
    await world.ada.slash(world.general, "pause")
    await join(world)
    assert introductions(world.general) == []
    await world.ada.slash(world.general, "resume")
    await introduced(world)


async def test_without_a_record_nothing_is_posted(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could come again and again."""

    async def disk_full(*_: object) -> bool:
        raise DiskFull

    monkeypatch.setattr(storage_of(world).introductions, "claim", disk_full)
    await join(world)
    assert introductions(world.general) == []
    assert f"no introduction in {world.guild.id}" in caplog.text


# --- the buttons ---------------------------------------------------------------------------------


async def test_answer_in_this_channel_does_what_the_command_does(world: World) -> None:
    message = await introduced(world)
    pressed = await world.ada.click(message, label="Answer in this channel")
    await world.ben.send(world.general, "hello?")
    assert world.last() == "you said hello?"
    typed = await world.ada.slash(world.general, "channel enable")
    assert (pressed.response.content, pressed.ephemeral) == (typed.response.content, True)
    first, second = await storage_of(world).audit.entries(world.guild.id, 9)
    assert (first.action, first.detail, first.actor_id) == (
        second.action,
        second.detail,
        second.actor_id,
    )


async def test_answer_in_this_channel_is_for_managers(world: World, worker: FakeWorker) -> None:
    told = await world.ben.click(await introduced(world), label="Answer in this channel")
    assert told.response.content == "You need the permission Manage Server for that."
    assert told.ephemeral
    await world.ben.send(world.general, "hello?")
    assert worker.heard == []
    assert await storage_of(world).audit.entries(None, 9) == []


async def test_teach_me_something_teaches_as_the_command_does(world: World) -> None:
    message = await introduced(world)
    shown = await world.ben.click(message, label="Teach me something")
    assert shown.modal["title"] == "Teach me something"
    values = {"question": "Who are you?", "answer": " A bot. ", "also": "your name?\nname?"}
    pressed = await world.ben.submit_modal(shown, values)
    first = await storage_of(world).examples.all(world.guild.id)
    assert {(one.user, one.bot, one.author_id, one.source) for one in first} == {
        (question, "A bot.", world.ben.id, "teach")
        for question in ("Who are you?", "your name?", "name?")
    }
    typed = await world.ben.slash(world.general, "teach", user="Where?", bot="Here.")
    assert "To “Who are you?” I should answer: “A bot.”" in pressed.response.content
    assert not pressed.ephemeral
    assert not typed.ephemeral
    empty = await world.ben.submit_modal(
        await world.ben.click(message, label="Teach me something"),
        {"question": " ", "answer": " "},
    )
    assert empty.ephemeral


async def test_privacy_shows_what_the_command_shows(world: World) -> None:
    message = await introduced(world)
    pressed = await world.ben.click(message, label="Privacy")
    typed = await world.ben.slash(world.general, "privacy show")
    assert pressed.response.content == typed.response.content
    assert pressed.ephemeral
    [unchanged] = introductions(world.general)
    assert (unchanged.content, labels(unchanged)) == (message.content, LABELS)


async def test_the_buttons_outlive_the_bot(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    message = await introduced(world)
    async with build_bot(settings, worker=worker) as again:
        await world.env.restart_bot(again)
        pressed = await world.ada.click(message, label="Answer in this channel")
        assert "I now answer every message" in pressed.response.content
        shown = await world.ben.click(message, label="Teach me something")
        told = await world.ben.submit_modal(shown, {"question": "Who?", "answer": "A bot."})
        assert "“A bot.”" in told.response.content
        assert (await world.ben.click(message, label="Privacy")).ephemeral

"""Who may do what, the audit of it, and the switch that makes the bot silent."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import discord
import pytest
from discord import app_commands

from bot.chat.admission import PAUSED_NOTICE
from bot.discord_ui.audit import AUDIT_EMPTY, AUDIT_PAGE_SIZE
from bot.discord_ui.permissions import ONLY_OPERATORS
from bot.settings import Settings
from data.storage.tables.pauses import EVERYWHERE
from tests.bot.asking import ask, storage_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_feedback import growing
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]
PAGE_OF_PERMISSIONS = Path(__file__).parents[4] / "docs" / "permissions.md"
LACKS = {
    "manager": "You need the permission Manage Server for that.",
    "administrator": "You need the permission Administrator for that.",
}
FIT = {
    discord.AppCommandOptionType.string: "x",
    discord.AppCommandOptionType.integer: 1,
    discord.AppCommandOptionType.number: 1.0,
    discord.AppCommandOptionType.boolean: False,
    discord.AppCommandOptionType.attachment: ("a.csv", b"user,bot\na,b\n"),
}


def table() -> dict[str, str]:
    """The commands of the page, and who may use each."""
    text = PAGE_OF_PERMISSIONS.read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `/([a-z -]+)` \| (\w+) \|", text, re.MULTILINE))


def commands(world: World) -> dict[str, app_commands.Command[Any, ..., Any]]:
    return {
        one.qualified_name: one
        for one in world.bot.tree.walk_commands()
        if isinstance(one, app_commands.Command)
    }


def filled(command: app_commands.Command[Any, ..., Any]) -> dict[str, Any]:
    """Something for each option that it needs."""
    return {
        one.display_name: one.choices[0].value if one.choices else FIT[one.type]
        for one in command.parameters
        if one.required
    }


async def test_the_page_names_each_command_and_who_may_use_it(open_fake: Open) -> None:
    """Discord hides them from ben; where a server's settings do not, the bot refuses."""
    async with open_fake(check_errors=False) as world:
        there = commands(world)
        assert table().keys() == there.keys()
        for name in {name.split()[0] for name, who in table().items() if who != "member"}:
            await world.open_to_all(name)
        for name, who in table().items():
            if who != "member":
                told = await world.ben.slash(world.general, name, **filled(there[name]))
                assert (told.response.content, name) == (LACKS[who], name)
                assert told.ephemeral
        assert await storage_of(world).audit.entries(None, 9) == [], "what was refused was not done"


async def test_discord_hides_what_members_may_not_use(world: World) -> None:
    hidden = {
        command.name
        for command in world.bot.tree.get_commands()
        if getattr(command, "default_permissions", None) is not None
    }
    wanted = {name.split()[0] for name, who in table().items() if who != "member"}
    assert hidden == wanted - {"model"}, "a group is hidden as a whole, and members may list models"


async def test_an_operator_may_do_everything_in_every_server(
    settings: Settings, worker: FakeWorker
) -> None:
    async with open_world(settings, worker) as world:
        world.bot.operators.add(world.ben.id)
        for name in ("model", "audit"):
            await world.open_to_all(name)
        told = await world.ben.slash(world.general, "model use", name="tiny")
        assert told.response.content == "**tiny** answers from now on."
        told = await world.ben.slash(world.general, "audit", everywhere=True)
        assert f"ben in {world.guild.name}: model use tiny" in description(told)


async def test_the_owner_of_the_application_and_those_of_the_setting_are_operators(
    settings: Settings, worker: FakeWorker
) -> None:
    named = settings.model_copy(update={"operator_ids": {5, 6}})
    async with open_world(named, worker) as world:
        assert world.bot.application is not None
        owner = world.bot.application.owner.id
        assert world.bot.operators == {5, 6, owner}


# --- the audit -----------------------------------------------------------------------------------


def description(result: Any) -> str:
    return str(result.response.embeds[0].description)


async def audited(world: World) -> list[tuple[str, str]]:
    lines = await storage_of(world).audit.entries(world.guild.id, 50)
    assert {one.actor_id for one in lines} <= {world.ada.id}
    return [(one.action, one.detail) for one in reversed(lines)]


async def test_what_managers_do_is_written_down(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    for command, options in (
        ("channel enable", {}),
        ("channel disable", {}),
        ("model use", {"name": "tiny-1"}),
        ("model use", {"name": "tiny"}),
        ("model rollback", {}),
        ("model use", {"name": "tiny"}),
        ("pause", {}),
        ("pause", {}),
        ("resume", {}),
    ):
        await world.ada.slash(world.general, command, **options)
    question = await world.ada.slash(world.general, "model delete", name="tiny-1")
    await world.ada.click(question.response, label="Delete")
    channel = f"<#{world.general.id}>"
    assert await audited(world) == [
        ("channel enable", channel),
        ("channel disable", channel),
        ("model use", "tiny-1"),
        ("model use", "tiny"),
        ("model rollback", "to tiny-1"),
        ("model use", "tiny"),
        ("pause", ""),
        ("resume", ""),
        ("model delete", "tiny-1"),
    ]


async def test_what_becomes_of_the_data_set_is_written_down_without_its_words(
    world: World,
) -> None:
    file = ("pairs.csv", b"user,bot\nsecret question,secret answer\nb,c\n")
    offer = await world.ada.slash(world.general, "dataset import", file=file)
    await world.ada.click(offer.response, label="Import")
    await world.ada.slash(world.general, "dataset export", format="jsonl")
    page = await world.ada.slash(world.general, "dataset review", status="all")
    await world.ada.click(page.response, label="Reject")
    await world.ada.click(page.response, label="Approve")
    question = await world.ada.slash(world.general, "dataset remove", example=1)
    await world.ada.click(question.response, label="Remove")
    assert await audited(world) == [
        ("dataset import", "2 new pairs"),
        ("dataset export", "dataset.jsonl: 2 pairs"),
        ("dataset reject", "1"),
        ("dataset approve", "2"),
        ("dataset remove", "1: 1"),
    ]


async def test_the_audit_is_shown_page_by_page(world: World) -> None:
    assert (await world.ada.slash(world.general, "audit")).response.content == AUDIT_EMPTY
    storage = storage_of(world)
    for n in range(AUDIT_PAGE_SIZE + 3):
        await storage.audit.record(world.guild.id, world.ada.id, "model use", f"tiny-{n} @everyone")
    await storage.audit.record(world.guild.id + 1, 5, "model use", "of another server")
    shown = await world.ada.slash(world.general, "audit")
    assert shown.ephemeral
    assert [int(n) for n in re.findall(r"tiny-(\d+)", description(shown))] == [*range(12, 2, -1)]
    assert "@everyone" not in description(shown)
    older = await world.ada.click(shown.response, label="Older")
    assert [int(n) for n in re.findall(r"tiny-(\d+)", description(older))] == [2, 1, 0]
    newer = await world.ada.click(older.response, label="Newer")
    assert "tiny-12" in description(newer)


# --- silence -------------------------------------------------------------------------------------


async def test_a_paused_server_hears_why_once_and_then_nothing(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        told = await world.ada.slash(world.general, "pause")
        assert told.ephemeral
        assert told.response.content.startswith("I am silent in this server until `/resume`.")
        assert await world.say(world.ben, "hello") == PAUSED_NOTICE
        assert await world.say(world.ben, "hello?") is None
        asked = await world.ben.slash(world.general, "chat", text="hello")
        assert asked.response.content == PAUSED_NOTICE
        assert await storage_of(world).messages.context(world.general.id, 5) == [], (
            "nothing is listened to"
        )
        await world.ada.slash(world.general, "resume")
        assert await world.say(world.ben, "hello") == "you said hello"
        await world.ada.slash(world.general, "pause")
        assert await world.say(world.ben, "hello") == PAUSED_NOTICE, "another pause is told again"


async def test_a_reply_under_way_ends_where_it_is(
    world: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.discord_ui.delivery.reply.FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr("bot.discord_ui.delivery.reply.EDIT_INTERVAL_S", 0.0)
    reply, _ = await growing(world, worker)
    await world.ada.slash(world.general, "pause")
    [answer] = [one for one in world.general.history() if one.id == reply.id]
    assert answer.content == "> hi\nyou said"
    worker.gate.set()
    again = await world.ben.click(answer, custom_id="reply:again:q")
    assert (again.ephemeral, again.response.content) == (True, PAUSED_NOTICE)


async def test_a_pause_outlives_the_bot(settings: Settings, worker: FakeWorker) -> None:
    async with open_world(settings, worker) as world:
        await world.ada.slash(world.general, "pause")
    async with open_world(settings, FakeWorker()) as world:
        assert await world.say(world.ben, "hello") == PAUSED_NOTICE


async def test_an_operator_pauses_everything(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        refused = await world.ada.slash(world.general, "pause", everywhere=True)
        assert refused.response.content == ONLY_OPERATORS
        world.bot.operators.add(world.ada.id)
        told = await world.ada.slash(world.general, "pause", everywhere=True)
        assert told.response.content.startswith("I am silent everywhere until `/resume`.")
        direct = await world.ben.send_dm("hello")
        assert direct.channel.id
        assert await world.say(world.ben, "hello") == PAUSED_NOTICE
        here = await world.ada.slash(world.general, "resume")
        assert here.response.content.endswith("But an operator has paused me everywhere.")
        await world.ada.slash(world.general, "resume", everywhere=True)
        assert await world.say(world.ben, "hello") == "you said hello"
        assert await storage_of(world).pauses.scopes() == set()
        [resumed, paused] = await storage_of(world).audit.entries(EVERYWHERE, 9)
        assert (resumed.action, paused.action) == ("resume", "pause")


async def test_a_pause_covers_replays(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        why = await world.ada.context_menu(world.general, "Why this reply?", reply)
        await world.ada.slash(world.general, "pause")
        told = await world.ada.select(why.response, ["tiny"], custom_id=f"reply:replay:{reply.id}")
        assert told.response.content == PAUSED_NOTICE


async def test_a_pause_that_cannot_be_written_holds_and_can_be_ended(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await storage_of(world)._db.execute("PRAGMA query_only = ON")
        told = await world.ada.slash(world.general, "pause")
        assert told.response.content.startswith(
            "I am silent in this server, but only until I am restarted"
        )
        assert await world.say(world.ben, "hello") == PAUSED_NOTICE
        await storage_of(world)._db.execute("PRAGMA query_only = OFF")
        told = await world.ada.slash(world.general, "resume")
        assert told.response.content == "I answer in this server again."
        assert await world.say(world.ben, "hello") == "you said hello"


async def test_start_is_checked_again_when_it_is_pressed(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await world.ben.slash(world.general, "teach", user="hi", bot="hello")
        plan = await world.ada.slash(world.general, "retrain")
        guild = world.bot.get_guild(world.guild.id)
        [role] = [one for one in guild.roles if one.permissions.administrator]
        await role.edit(permissions=discord.Permissions())
        told = await world.ada.click(plan.response, label="Start")
        assert told.response.content == LACKS["administrator"]
        assert await storage_of(world).jobs.unfinished() == []

"""What Discord says of the account, asked of a real server that speaks like Discord's."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import discord
import pytest
from discord.http import Route

from bot.cli.doctor.account import INTENTS, NAMES, PERMISSIONS, TOKEN, check_account
from bot.discord_ui.bot_permissions import INVITE_PERMISSIONS
from bot.ops.checks.check import Finding
from tests.bot.conftest import World
from tests.bot.discord_api import APPLICATION, MESSAGE_CONTENT, Api, serve
from tests.bot.discord_api import TOKEN as RIGHT


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    async with serve(Api(guilds=[("The Lighthouse", INVITE_PERMISSIONS.value)])) as api:
        monkeypatch.setattr(Route, "BASE", api.url)
        yield api


async def found(token: str | None = RIGHT) -> dict[str, Finding]:
    findings = {one.name: one for one in await check_account(token)}
    assert tuple(findings) == NAMES
    assert all(one.ok or one.advice for one in findings.values())
    return findings


async def test_all_is_well(api: Api) -> None:
    findings = await found()
    assert all(one.ok for one in findings.values())
    assert "gpt2bot" in findings[TOKEN].detail


@pytest.mark.parametrize("token", [None, "", "  "])
async def test_no_token(token: str | None) -> None:
    assert "copy your bot's token" in (await found(token))[TOKEN].advice


async def test_a_wrong_token_and_a_discord_that_is_away_are_two_things(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = (await found("wrong.token"))[TOKEN]
    assert wrong.detail == "Discord does not accept DISCORD_TOKEN."
    with socket.socket() as nobody:  # bound, and not listening: whoever connects is refused
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr(Route, "BASE", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        away = (await found())[TOKEN]
    assert away.detail.startswith("Discord cannot be reached (")
    assert "firewall" in away.advice
    assert not wrong.ok
    assert not away.ok


async def test_a_discord_with_troubles_of_its_own(api: Api) -> None:
    api.status = 503
    findings = await found()
    assert "the status 503" in findings[TOKEN].detail
    assert not any(one.ok for one in findings.values())


@pytest.mark.parametrize(("flags", "ok"), [(MESSAGE_CONTENT, True), (0, False), (1 << 15, False)])
async def test_the_intent(api: Api, flags: int, ok: bool) -> None:
    api.flags = flags
    findings = await found()
    assert findings[INTENTS].ok is ok
    assert findings[TOKEN].ok
    assert findings[PERMISSIONS].ok


async def test_what_is_missing_is_named_for_each_server(api: Api) -> None:
    some = discord.Permissions(INVITE_PERMISSIONS.value)
    some.update(attach_files=False, send_messages=False)
    api.guilds += [("The Pier", some.value), ("The Bay", 8)]  # 8: administrator
    finding = (await found())[PERMISSIONS]
    assert finding.detail == "Missing permissions in The Pier: Send Messages, Attach Files."
    assert f"client_id={APPLICATION}" in finding.advice
    assert f"permissions={INVITE_PERMISSIONS.value}" in finding.advice


async def test_every_server_is_looked_at(api: Api) -> None:
    api.guilds = [(f"{n}", INVITE_PERMISSIONS.value) for n in range(400)]
    assert "all permissions it needs in its 400 servers" in (await found())[PERMISSIONS].detail
    api.guilds += [(f"bare {n}", 0) for n in range(10)]
    detail = (await found())[PERMISSIONS].detail
    assert "bare 4" in detail
    assert detail.endswith("… and in 5 more.")


async def test_a_bot_that_nobody_invited(api: Api) -> None:
    api.guilds = []
    finding = (await found())[PERMISSIONS]
    assert not finding.ok
    assert finding.advice.startswith("Invite it: https://discord.com/oauth2/authorize?")


async def test_what_is_missing_is_logged_when_the_bot_comes_to_a_server(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    guild = world.bot.get_guild(world.guild.id)
    assert guild is not None
    assert "I lack" not in caplog.text
    for role in guild.roles:
        left = role.permissions.value & ~discord.Permissions(attach_files=True).value
        world.env.backend.edit_role(guild.id, role.id, {"permissions": left})
    await world.say(world.ada, "hello")  # until then, the bot has heard of it
    world.bot.dispatch("guild_join", guild)
    await world.say(world.ada, "hello again")
    assert f"{guild.name} ({guild.id}): I lack Attach Files there" in caplog.text
